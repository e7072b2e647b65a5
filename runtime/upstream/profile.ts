/** What engines can do, before they are asked and after. */
import type { ConstraintKind } from "../constraint_spec.ts";
import type { EngineName, ExtraSampling, UpstreamKind, UpstreamProfile } from "./types.ts";

const ALL: ReadonlySet<ExtraSampling> = new Set([
  "top_k",
  "min_p",
  "typical_p",
  "repetition_penalty",
]);
const MOST: ReadonlySet<ExtraSampling> = new Set(["top_k", "min_p", "repetition_penalty"]);
const NONE: ReadonlySet<ExtraSampling> = new Set();
const SCHEMAS: ReadonlySet<ConstraintKind> = new Set(["json_schema"]);
const FORMS: ReadonlySet<ConstraintKind> = new Set(["json_schema", "regex", "choice", "grammar"]);

/** The least that "OpenAI-compatible" promises. */
const compatible: UpstreamProfile = {
  engine: "openai",
  chat: true,
  completions: false,
  n: false,
  chatLogprobs: undefined,
  completionLogprobs: undefined,
  tokenIds: false,
  seed: true,
  logitBias: true,
  sampling: NONE,
  continues: false,
  templateKwargs: false,
  ignoreEos: false,
  formats: SCHEMAS,
  contextLength: undefined,
};

/** vLLM and SGLang serve the same interface. */
const vllmLike: Partial<UpstreamProfile> = {
  n: true,
  completions: true,
  tokenIds: true,
  chatLogprobs: 20,
  completionLogprobs: 20,
  sampling: MOST,
  continues: true,
  templateKwargs: true,
  ignoreEos: true,
  formats: FORMS,
};

/**
 * What is known of each engine. vLLM, SGLang, llama.cpp and Ollama by their source, LM Studio by its
 * documentation, as of August 2026. Log-probabilities are believed only once seen.
 */
const known: Readonly<Record<EngineName, Partial<UpstreamProfile>>> = {
  auto: {},
  openai: { n: true },
  vllm: vllmLike,
  sglang: vllmLike,
  "llama.cpp": {
    n: true,
    completions: true,
    tokenIds: true,
    chatLogprobs: 20,
    completionLogprobs: 20,
    sampling: ALL,
    continues: true,
    templateKwargs: true,
    ignoreEos: true,
    // It has no regular expressions; a choice is a grammar.
    formats: new Set(["json_schema", "choice", "grammar"]),
  },
  ollama: { logitBias: false },
  lmstudio: { sampling: new Set(["top_k", "repetition_penalty"]) },
  decant: {
    n: true,
    completions: true,
    tokenIds: true,
    chatLogprobs: 20,
    completionLogprobs: 20,
    sampling: ALL,
    continues: true,
    templateKwargs: true,
    ignoreEos: true,
    formats: FORMS,
  },
};

/** The profile of an engine nobody has asked yet; later parts win. */
export function profileOf(
  engine: EngineName,
  ...parts: readonly Partial<UpstreamProfile>[]
): UpstreamProfile {
  const merged = Object.assign({}, compatible, known[engine], ...parts);
  return { ...merged, engine: engine === "auto" ? "openai" : engine };
}

/** What all of these can do: a request may land at any of them. */
export function common(profiles: readonly UpstreamProfile[]): UpstreamProfile {
  return profiles.reduce((a, b) => ({
    engine: a.engine === b.engine ? a.engine : "openai",
    chat: a.chat && b.chat,
    completions: a.completions && b.completions,
    n: a.n && b.n,
    chatLogprobs: least(a.chatLogprobs, b.chatLogprobs),
    completionLogprobs: least(a.completionLogprobs, b.completionLogprobs),
    tokenIds: a.tokenIds && b.tokenIds,
    seed: a.seed && b.seed,
    logitBias: a.logitBias && b.logitBias,
    sampling: a.sampling.intersection(b.sampling),
    continues: a.continues && b.continues,
    templateKwargs: a.templateKwargs && b.templateKwargs,
    ignoreEos: a.ignoreEos && b.ignoreEos,
    formats: a.formats.intersection(b.formats),
    contextLength: a.contextLength === undefined
      ? b.contextLength
      : Math.min(a.contextLength, b.contextLength ?? Infinity),
  }));
}

function least(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? undefined : Math.min(a, b);
}

/**
 * The route a model's completions take: token by token where token ids go in and out with
 * log-probabilities and the vocabulary is at hand, otherwise the chat route.
 */
export function kindOf(
  wanted: UpstreamKind | "auto",
  profile: UpstreamProfile,
  hasVocab: boolean,
): UpstreamKind {
  if (wanted !== "auto") return wanted;
  const isAble = profile.completions && profile.tokenIds &&
    profile.completionLogprobs !== undefined;
  return isAble && hasVocab ? "completions" : "chat";
}
