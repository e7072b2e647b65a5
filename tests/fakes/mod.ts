/** In-repository stand-ins for models. */
export { fakeVocab, type FakeVocabOptions } from "./vocab.ts";
export { hashModel, type HashModelOptions, letterVocab } from "./hash_model.ts";
export { type NextTokens, tableModel, type TableModelOptions } from "./table_model.ts";
export { allCapabilities, type FakeModel, type FakeModelOptions } from "./_model.ts";
export { predicateConstraint, type PredicateOptions } from "./constraints.ts";
export { textOnly } from "./text_only.ts";
export type { FakeStats } from "./_engine.ts";
