/** What an upstream is, and what this floor needs of the outside world to talk to one. */
import type { ConstraintKind } from "../constraint_spec.ts";
import type { Vocab } from "../model.ts";

/** Engines whose habits we know; "openai" stands for anything compatible. */
export type EngineName =
  | "auto"
  | "openai"
  | "vllm"
  | "sglang"
  | "llama.cpp"
  | "ollama"
  | "lmstudio"
  | "decant";

/** Which of the two routes of the API carries a model's completions. */
export type UpstreamKind = "chat" | "completions";

/** What an upstream can do, as declared, probed or known of its engine. */
export interface UpstreamProfile {
  readonly engine: EngineName;
  readonly chat: boolean;
  readonly completions: boolean;
  /** Several choices per call. Where not, calls are multiplied. */
  readonly n: boolean;
  /** Most alternatives per token on the chat route; undefined = no log-probabilities. */
  readonly chatLogprobs: number | undefined;
  /** The same on the completions route. */
  readonly completionLogprobs: number | undefined;
  /** Takes token ids as a prompt, and tells the ids of what it drew. */
  readonly tokenIds: boolean;
  readonly seed: boolean;
  readonly logitBias: boolean;
  /** Sampling fields beyond the API's own that it honours. */
  readonly sampling: ReadonlySet<ExtraSampling>;
  /** Continues the last assistant message. */
  readonly continues: boolean;
  /** Takes extra template variables. */
  readonly templateKwargs: boolean;
  /** Can be told to go on past its stop tokens. */
  readonly ignoreEos: boolean;
  /** Forms of text that it keeps its answers to. */
  readonly formats: ReadonlySet<ConstraintKind>;
  /** Longest sequence in tokens, where it says so. */
  readonly contextLength: number | undefined;
}

/** Sampling fields that only some engines know, under their names on the wire. */
export type ExtraSampling = "top_k" | "min_p" | "typical_p" | "repetition_penalty";

/** One server behind an upstream. */
export interface Replica {
  /** Base address up to and including `/v1`, without a slash at the end. Never in a message. */
  readonly url: string;
  /** Secret sent as a bearer token. Never in a message. */
  readonly key: string | undefined;
  /** The model's name there. */
  readonly model: string;
  /** Share of the load beside replicas of the same priority. */
  readonly weight: number;
  /** Higher numbers are used only while all lower ones cannot take the request. */
  readonly priority: number;
  /** Calls at once. */
  readonly maxConnections: number;
}

/** A model served elsewhere, complete: no defaults are left. Times in milliseconds. */
export interface UpstreamSpec {
  /** Public id, also the logical name in headers and messages. */
  readonly id: string;
  readonly engine: EngineName;
  readonly kind: UpstreamKind | "auto";
  readonly replicas: readonly Replica[];
  /** The model's own vocabulary, where its tokenizer is at hand. */
  readonly vocab: Vocab | undefined;
  /** Longest sequence in tokens; undefined = what the upstream says. */
  readonly contextLength: number | undefined;
  /** Wins over what is probed. */
  readonly declared: Partial<UpstreamProfile>;
  /** Ask the upstream what it can do. */
  readonly probe: boolean;
  /** Send the same conversation to the same replica. */
  readonly affinity: boolean;
  /** Calls waiting for a connection; more are refused. */
  readonly queue: number;
  readonly timeouts: UpstreamTimeouts;
  readonly retries: RetryPolicy;
  readonly breaker: BreakerPolicy;
  readonly health: HealthPolicy;
  /** Start a second call at another replica after so long without text; undefined = never. */
  readonly hedgeMs: number | undefined;
}

/** How long an upstream may be silent. */
export interface UpstreamTimeouts {
  /** Until a server is known to be there; also how long probes may take. */
  readonly connectMs: number;
  /** Until the first byte of an answer. */
  readonly firstByteMs: number;
  /** Between two reads of an answer. */
  readonly idleMs: number;
}

/** Attempts before the first token; never after it. */
export interface RetryPolicy {
  /** Calls per request, the first one included. */
  readonly attempts: number;
  /** Retries allowed per request started, on average over time: a bound on added load. */
  readonly budget: number;
  /** First pause; doubles per attempt, with full jitter. */
  readonly baseMs: number;
  /** Longest pause, also of what `Retry-After` asks for. */
  readonly maxMs: number;
}

/** When a replica is left alone. */
export interface BreakerPolicy {
  /** Failures in a row that open the circuit. */
  readonly failures: number;
  /** How long it stays open before one call may try. */
  readonly openMs: number;
}

/** Active health probes. */
export interface HealthPolicy {
  /** Path below the server's root, e.g. "/health"; undefined = the model listing. */
  readonly path: string | undefined;
  /** 0 = none. */
  readonly intervalMs: number;
}

/** The outside world, as far as this floor uses it. */
export interface UpstreamHost {
  fetch(url: string, init: RequestInit): Promise<Response>;
  /** Milliseconds, never going back. */
  now(): number;
  /** Milliseconds since the epoch, for dates in `Retry-After`. */
  wallMs(): number;
  /** Calls `run` once after `ms`, unless the returned function is called first. */
  after(ms: number, run: () => void): () => void;
  /**
   * Calls `run` in the next turn of the event loop, within microseconds. Absent where the platform has
   * nothing so quick: asks are then joined by a timer.
   */
  turn?(run: () => void): void;
  /**
   * Events that follow others within so many milliseconds wait as long for more of their kind. Absent:
   * each goes on at once.
   */
  readonly gatherMs?: number;
  /** Uniform in [0, 1), for jitter. */
  random(): number;
  /** Told about replicas that fail and recover. Never given keys, addresses or text. */
  log?(event: UpstreamEvent): void;
}

/** Something an operator wants to know. */
export interface UpstreamEvent {
  readonly level: "info" | "warn";
  readonly event: string;
  readonly upstream: string;
  /** Index of the replica in the configuration. */
  readonly replica: number;
  readonly detail?: string;
}
