/** What the HTTP floor is given: models, configuration, clock, randomness. It reads none of them itself. */
import type { Catalog, ConstraintCompiler } from "../runtime/mod.ts";
import type { Calibration } from "../strategies/mod.ts";
import type { Predicates } from "./constraint.ts";
import type { Admin } from "./admin.ts";
import type { Room } from "./queue.ts";
import type { RateStore } from "./rates.ts";

/** A public model name that stands for a model and a way to decode. */
export interface Alias {
  readonly model: string;
  readonly strategy?: string;
  readonly params?: Readonly<Record<string, unknown>>;
  /** Further roles of the strategy: role -> model id. */
  readonly models?: Readonly<Record<string, string>>;
}

/** Upper bounds on what one request may ask for. Times in milliseconds, sizes in bytes. */
export interface Limits {
  readonly bodyBytes: number;
  /** Time for the whole body to arrive. */
  readonly bodyTotalMs: number;
  /** Longest pause inside the body. */
  readonly bodyIdleMs: number;
  /** Levels of arrays and objects in a JSON body. */
  readonly jsonDepth: number;
  readonly messages: number;
  readonly partsPerMessage: number;
  readonly tools: number;
  readonly stopStrings: number;
  readonly topLogprobs: number;
  /** Largest `n`. */
  readonly choices: number;
  /** Sessions one request may hold at once, over all its prompts. */
  readonly sequences: number;
  /** Largest `X-Decoding-Strategy` or `X-KV-Policy` header. */
  readonly headerBytes: number;
  /** Requests one model works on at once; the engine merges them into its steps. */
  readonly requestsPerModel: number;
  /** Requests that wait for one model; more are refused. */
  readonly queuedPerModel: number;
  /** The same for one API key, where the key says nothing else. */
  readonly perKey: Room;
  /**
   * A request that gives no sign of life for so long loses its place: some edge platforms drop the
   * work of a client that left without telling it. @default never
   */
  readonly placeLeaseMs?: number;
  readonly requestMs: number;
  /** Silence before the first keep-alive comment of a stream. */
  readonly keepAliveFirstMs: number;
  /** Silence between later ones. */
  readonly keepAliveMs: number;
  /** How long a stream may stand unread before its request is dropped. */
  readonly readerStallMs: number;
}

/** The limits of the wire contract, section 10. */
export const defaultLimits: Limits = {
  bodyBytes: 4 * 1024 * 1024,
  bodyTotalMs: 15_000,
  bodyIdleMs: 5_000,
  jsonDepth: 64,
  messages: 2_048,
  partsPerMessage: 64,
  tools: 128,
  stopStrings: 16,
  topLogprobs: 20,
  choices: 16,
  sequences: 64,
  headerBytes: 4_096,
  requestsPerModel: 8,
  queuedPerModel: 64,
  perKey: { running: 4, queued: 16 },
  requestMs: 600_000,
  keepAliveFirstMs: 1_000,
  keepAliveMs: 10_000,
  readerStallMs: 60_000,
};

/** Time as the gateway sees it. */
export interface Clock {
  /** Wall clock in seconds, for `created`. */
  unixSeconds(): number;
  /** Wall clock in milliseconds and parts of them, for spans. */
  unixMs(): number;
  /** Never goes back; for durations. */
  monotonicMs(): number;
  /** Calls `run` once after `ms` milliseconds, unless the returned function is called first. */
  after(ms: number, run: () => void): () => void;
}

/** A KV policy a request may name. */
export interface KvPolicyInfo {
  readonly name: string;
  /** Validates and completes parameters. @throws {Error} */
  readonly params: { parse(value: unknown): unknown };
}

/** One line of the log. Never holds prompt, answer or key. */
export interface LogEvent {
  readonly level: "info" | "warn" | "error";
  readonly event: string;
  readonly requestId?: string;
  readonly [field: string]: string | number | boolean | undefined;
}

/** What one API key may do. */
export interface KeyGrant {
  /** SHA-256 of the key. */
  readonly digest: Uint8Array;
  /** Public model names; undefined = all. */
  readonly models?: readonly string[] | undefined;
  /** Undefined = all. */
  readonly strategies?: readonly string[] | undefined;
  readonly requestsPerMinute?: number | undefined;
  /** Prompt tokens and drawn ones, sent or not. */
  readonly tokensPerMinute?: number | undefined;
  /** @default {@link Limits.perKey} */
  readonly room?: Room | undefined;
  /** Strategy of requests that name none. @default the server's */
  readonly strategy?: string | undefined;
}

/** Everything {@link createApp} needs. */
export interface AppDeps {
  readonly catalog: Catalog;
  readonly aliases: ReadonlyMap<string, Alias>;
  readonly defaults: { readonly strategy: string };
  /** SHA-256 digests of keys that may do everything but administration. */
  readonly apiKeys: readonly Uint8Array[];
  /** Further keys and what they may do. Neither these nor {@link apiKeys} = no key needed. */
  readonly keys?: readonly KeyGrant[];
  /** Where rate budgets are kept. @default this process */
  readonly rates?: RateStore;
  /** Host names (lower case, no port) the gateway answers to; undefined = any well-formed one. */
  readonly allowedHosts: readonly string[] | undefined;
  /** Origins other than our own whose pages may call us, e.g. "https://chat.example". @default none */
  readonly corsOrigins?: readonly string[];
  readonly limits: Limits;
  /** Our own `Via` entry: a request that carries it came through us before. @default not looked for */
  readonly via?: string;
  /** Refuse unknown request fields instead of listing them in `X-Ignored-Params`. @default false */
  readonly strictFields?: boolean;
  /** Serve `/metrics` (behind the key, where there is one). @default true */
  readonly metrics?: boolean;
  /** Calibrated rules for cascades, by the names requests use. @default none */
  readonly calibrations?: ReadonlyMap<string, Calibration>;
  /** @default the full cache alone */
  readonly kvPolicies?: readonly KvPolicyInfo[];
  /** Compiles what answers must be. @default in this thread */
  readonly constraints?: ConstraintCompiler;
  /** Functions that requests may name as constraints. @default none */
  readonly predicates?: Predicates;
  readonly version?: string;
  readonly clock: Clock;
  /** A fresh unguessable id of `[A-Za-z0-9._-]`, at most 64 characters. */
  newId(): string;
  /** Seed for requests that name none; 64 random bits. */
  randomSeed(): bigint;
  /** False while models load or the gateway drains. */
  isReady(): boolean;
  /** Who may load and unload models, and how. @default nobody */
  readonly admin?: Admin;
  /** Ends every request that is still running, when the gateway has to stop. @default never */
  readonly endSignal?: AbortSignal;
  /** True while the gateway finishes what runs and takes nothing new. @default never */
  isDraining?(): boolean;
  /** Further gauges for `/metrics`: name without prefix -> value. */
  engineStats?(): Readonly<Record<string, number>>;
  log(event: LogEvent): void;
}
