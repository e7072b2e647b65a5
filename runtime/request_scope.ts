/** The request that sessions work for: its KV policy, when it ends, and what it spent. */

/** A KV policy and its validated parameters, as the request chose them. */
export interface KvChoice {
  readonly name: string;
  readonly params: Readonly<Record<string, unknown>>;
}

/** What a request spent at one model. Counters only grow; the runtime writes them. */
export interface Meter {
  /** Tokens of the prompt, counted once per request. */
  promptTokens: number;
  /** Prompt tokens found in the prefix cache. */
  cachedTokens: number;
  /** Tokens appended to any session after its prompt, whether emitted or not. */
  drawnTokens: number;
  /** Rows the model computed for this request: one per session and step. */
  rows: number;
  /** Tokens the model computed for this request. */
  computedTokens: number;
  /** What the KV cache held, for models of this process. */
  kv?: KvUsage;
}

/** What a request's sequences hold in the KV cache. Bytes are those of pages, shared ones once. */
export interface KvUsage {
  /** Slots of the sequence computed last, on average over layers and heads. */
  readonly tokensKept: number;
  /** Its bytes, and those of the full cache at the same length. */
  readonly bytes: number;
  readonly bytesFull: number;
  /** Most bytes that all sequences of the request held at once. */
  readonly bytesPeak: number;
}

/** A meter at zero. */
export function createMeter(): Meter {
  return { promptTokens: 0, cachedTokens: 0, drawnTokens: 0, rows: 0, computedTokens: 0 };
}

/** Calls a request made to upstreams. The runtime writes them. */
export interface CallCounts {
  /** Calls, retries included. */
  attempts: number;
  /** Calls at replicas that only stand in for others. */
  fallbacks: number;
}

/** The request a session works for: who pays, when to stop, what may be shared. */
export interface RequestScope {
  readonly id: string;
  /** Pending asks reject with its reason when it fires. */
  readonly signal: AbortSignal;
  readonly meter: Meter;
  /** Only requests with equal salts share cached prefixes. */
  readonly cacheSalt: string;
  /** @default the full cache */
  readonly kv?: KvChoice | undefined;
  /** @default nobody counts */
  readonly calls?: CallCounts | undefined;
}
