/** What strategies and routes may import from the runtime. */
export * from "./errors.ts";
export * from "./model.ts";
export type { Constraint } from "./constraint.ts";
export { choiceConstraint } from "./constraints/choice.ts";
export { createRng, forkSeed, type Rng, type Seed, seedFrom, tokenGumbel } from "./rng.ts";
export {
  argMax,
  greedySampling,
  hasPenalties,
  largest,
  logNormalizer,
  logSoftmax,
  type SamplingParams,
  topCandidates,
  topK,
  warpedLogprobs,
} from "./sampling.ts";
export { type Catalog, type CatalogEntry, createCatalog, type ModelInfo } from "./catalog.ts";
export { encodePrompt } from "./prompt.ts";
