/** What strategies and routes may import from the runtime. */
export * from "./errors.ts";
export * from "./model.ts";
export type { Constraint } from "./constraint.ts";
export { choiceConstraint } from "./constraints/choice.ts";
export { ConstraintTooComplexError, regexConstraint } from "./constraints/regex/mod.ts";
export { createRng, forkSeed, type Rng, type Seed, seedFrom, tokenGumbel } from "./rng.ts";
export {
  argMax,
  entropy,
  greedySampling,
  hasPenalties,
  largest,
  logNormalizer,
  logSoftmax,
  sampleRow,
  type SamplingParams,
  topCandidates,
  topK,
  warpedLogprobs,
} from "./sampling.ts";
export { type Catalog, type CatalogEntry, createCatalog, type ModelInfo } from "./catalog.ts";
export { encodePrompt } from "./prompt.ts";
export { type Config, ConfigError, type ConfigInput, parseConfig } from "./config.ts";
export { readArgs, usage } from "./config_args.ts";
export { HubError, type HubOptions, renderProgress } from "./hub/mod.ts";
export { type LoadedModel, loadModel } from "./load.ts";
export { resolveModelPath } from "./source.ts";
export { selectBackend } from "./backend/select.ts";
