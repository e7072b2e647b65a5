/**
 * What strategies and routes may import from the runtime: nothing here touches files, processes or
 * native code, so that it runs on edge platforms. What does is in local.ts.
 */
export * from "./errors.ts";
export * from "./model.ts";
export type { Constraint } from "./constraint.ts";
export { choiceConstraint } from "./constraints/choice.ts";
export {
  askPredicate,
  type Predicate,
  predicateConstraint,
  type PredicateOptions,
  predicateProblem,
} from "./constraints/predicate.ts";
export {
  type CompileChannel,
  type ConstraintCompiler,
  createConstraintCompiler,
} from "./constraints/compiler.ts";
export { type ConstraintLimits, constraintLimits } from "./constraints/spec.ts";
export type { ConstraintKind, ConstraintSpec } from "./constraint_spec.ts";
export { grammarConstraint } from "./constraints/grammar/mod.ts";
export { jsonSchemaConstraint } from "./constraints/json/mod.ts";
export { ConstraintTooComplexError, regexConstraint } from "./constraints/regex/mod.ts";
export { createRng, forkSeed, type Rng, type Seed, seedFrom, tokenGumbel } from "./rng.ts";
export {
  allowedMass,
  argMax,
  entropy,
  expNonPositive,
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
export { createSha256 } from "./sha256.ts";
export { getPolicy, listPolicies } from "./kv/policies/mod.ts";
export type { KvFamily, KvPolicy } from "./kv/policy.ts";
export { encodePrompt } from "./prompt.ts";
export {
  createUpstream,
  createUpstreams,
  namedTokenizers,
  type Upstream,
  type UpstreamEvent,
  type UpstreamHost,
  type UpstreamSources,
} from "./upstream/mod.ts";
export { type Config, ConfigError, type ConfigInput, parseConfig } from "./config.ts";
