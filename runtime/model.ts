/**
 * LanguageModel and Session: what strategies see of any model, in this process or far away.
 *
 * A session is a value: a sequence of tokens one can extend, shorten and copy. The KV cache is only
 * a cache of that value. `append`, `truncate` and `fork` cost nothing; only asks compute.
 */
import type { ConstraintSpec } from "./constraint_spec.ts";
import { CapabilityError } from "./errors.ts";
import type { KvChoice, RequestScope } from "./request_scope.ts";
import type { GenerateOptions, Sampled, SampleOptions, TopK } from "./samples.ts";
import type { SamplingParams } from "./sampling.ts";
import type { ChatOptions, Prompt, TokenId, Vocab } from "./vocab.ts";

export * from "./request_scope.ts";
export * from "./samples.ts";
export * from "./vocab.ts";

/** Which positions an ask reads: the last `last` ones. */
export interface At {
  /** How many trailing positions, oldest first in the answer. @default 1 */
  readonly last?: number;
}

/** Draft tokens in a tree below the session's end. */
export interface TokenTree {
  /** Tokens in an order where parents come first. */
  readonly tokens: readonly TokenId[];
  /** Index of each node's parent, -1 for children of the session's end. */
  readonly parents: readonly number[];
}

/** One entry per thing a session may be able to do. The key is the capability's name. */
export interface Capabilities {
  /**
   * Decodes on. Appends what the consumer consumed: breaking out leaves the session exactly there.
   * Ends after a stop token (which is yielded and appended) or `maxTokens`.
   */
  generate: {
    generate(options: GenerateOptions): AsyncIterable<Sampled>;
    /** How the last `generate` ended, from models that stop without showing a stop token. */
    readonly ended?: "stop" | "length" | undefined;
  };
  /** Draws one token at the end of the session, without appending it. */
  sample: { sample(options: SampleOptions): Promise<Sampled> };
  edit: {
    readonly tokens: readonly TokenId[];
    readonly length: number;
    /** Tokens before this length are settled and cannot be taken back. Never decreases. */
    readonly committed: number;
    append(tokens: readonly TokenId[]): void;
    /** @throws {RangeError} if `length` is below `committed` or above the current length */
    truncate(length: number): void;
  };
  topk: { topk(k: number, at?: At): Promise<readonly TopK[]> };
  /** Log-probability of each of the last tokens given what stands before it. */
  score: { score(at: At): Promise<Float32Array> };
  /** Rows [vocab], f32, unnormalised. Callers own them and may change them. */
  logits: { logits(at?: At): Promise<readonly Float32Array[]> };
  /** Entropy of the next-token distribution in nats, one value per position. */
  entropy: { entropy(at?: At): Promise<Float32Array> };
  /** Hidden state after layer `layer` (0 = embedding, `layers` = last, before the final norm). */
  hidden: { hidden(layer: number, at?: At): Promise<readonly Float32Array[]> };
  /** Logits [vocab] after each tree node, in one pass, without changing the session. */
  tree: { tree(tree: TokenTree): Promise<readonly Float32Array[]> };
}

/** Name of something a session may be able to do. */
export type Capability = keyof Capabilities;

type Intersect<U> = (U extends unknown ? (u: U) => void : never) extends (i: infer I) => void ? I
  : never;

/** Every session can be copied and closed; the rest is capability. */
export interface SessionCore extends Disposable {
  /** Copy-on-write copy; shares the computed prefix. */
  fork(): this;
}

/** A live sequence at one model with the given capabilities. */
export type Session<C extends Capability = Capability> = SessionCore & Intersect<Capabilities[C]>;

/** How to open a session. */
export interface SessionOptions {
  /** How many trailing tokens `truncate` may still take back. @default 0 */
  readonly rollback?: number;
  /** How messages become text. Ignored for token prompts. */
  readonly chat?: ChatOptions;
  /** The request this session belongs to. @default a scope of its own that never aborts */
  readonly scope?: RequestScope;
}

/** What a request asks of a model beyond capabilities. */
export interface ModelDemand {
  readonly sampling: SamplingParams;
  /** Alternatives per token; undefined = no log-probabilities. */
  readonly logprobs: number | undefined;
  readonly chat: ChatOptions;
  readonly isChat: boolean;
  readonly stopTokens: readonly TokenId[];
  readonly ignoreStop: boolean;
  readonly kv: KvChoice | undefined;
}

/** Anything that continues sequences of tokens. */
export interface LanguageModel<C extends Capability = Capability> {
  readonly id: string;
  /** Undefined when only text crosses the wire. */
  readonly vocab: Vocab | undefined;
  /** Longest sequence in tokens. */
  readonly contextLength: number;
  readonly capabilities: ReadonlySet<Capability>;
  /**
   * Whether requests can run under a KV policy here, checked before any work. Absent: the full cache
   * alone.
   *
   * @returns the choice with all parameters, those too that this model settles
   * @throws {PolicyError} if the model cannot run the policy or not with these parameters
   */
  readonly checkKv?: (choice: KvChoice) => KvChoice;
  /**
   * Longest sequence under a KV policy; Infinity where a bounded cache counts places itself.
   * @default contextLength
   */
  readonly contextUnder?: (choice: KvChoice) => number;
  /**
   * Most alternatives per token it tells. Absent: any number where there is a vocabulary, and no
   * log-probabilities at all where there is none.
   */
  readonly topLogprobs?: number | undefined;
  /**
   * Whether `generate` keeps its text to this form by itself. Absent: it never does, and constraints
   * are applied token by token.
   */
  honours?(format: ConstraintSpec): boolean;
  /** Names what this model cannot do of a demand; none = all of it. @default everything can be done */
  lacks?(demand: ModelDemand): readonly string[];
  /** @throws {ContextLengthError} if the prompt alone does not fit */
  session(prompt: Prompt, options?: SessionOptions): Session<C>;
}

/**
 * The only cast in the codebase from "any model" to "a model that can do these".
 *
 * @throws {CapabilityError} naming everything that is missing
 */
export function requireCapabilities<const C extends readonly Capability[]>(
  model: LanguageModel<never>,
  needs: C,
  use: { readonly strategy?: string; readonly role?: string } = {},
): LanguageModel<C[number]> {
  const missing = needs.filter((need) => !model.capabilities.has(need));
  if (missing.length > 0) throw new CapabilityError(model.id, missing, use);
  return model as LanguageModel<C[number]>;
}
