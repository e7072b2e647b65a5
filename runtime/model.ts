/**
 * LanguageModel and Session: what strategies see of any model, in this process or far away.
 *
 * A session is a value: a sequence of tokens one can extend, shorten and copy. The KV cache is only
 * a cache of that value. `append`, `truncate` and `fork` cost nothing; only asks compute.
 */
import type { ConstraintSpec } from "./constraint_spec.ts";
import { CapabilityError } from "./errors.ts";
import type { SamplingParams } from "./sampling.ts";

/** Index into a vocabulary. */
export type TokenId = number;

/** One turn of a conversation. */
export interface Message {
  readonly role: "system" | "developer" | "user" | "assistant" | "tool";
  readonly content: string | null;
  readonly name?: string;
  readonly toolCalls?: readonly unknown[];
  readonly toolCallId?: string;
}

/** Token ids, or chat messages the model renders with its own template. */
export type Prompt = readonly TokenId[] | readonly Message[];

/** How a chat is turned into text. */
export interface ChatOptions {
  /** Append the control tokens that open an assistant turn. @default true */
  readonly addGenerationPrompt?: boolean;
  /** Leave the last message open, so that decoding continues it. @default false */
  readonly continueFinalMessage?: boolean;
  /** Tool definitions, as the request gave them. */
  readonly tools?: readonly unknown[];
  /** Extra template variables, JSON values only. */
  readonly kwargs?: Readonly<Record<string, unknown>>;
}

/** A model's chat template. */
export interface ChatTemplate {
  /** Text with control tokens. @throws {TemplateError} */
  render(messages: readonly Message[], options?: ChatOptions): string;
  /**
   * Token ids of the rendered chat. Control tokens inside message contents stay plain text.
   * @throws {TemplateError}
   */
  encode(messages: readonly Message[], options?: ChatOptions): TokenId[];
}

/** How {@link Vocab.encode} treats its text. */
export interface EncodeOptions {
  /** Recognise control tokens written in the text. @default false */
  readonly special?: boolean;
  /** Put the begin-of-sequence token first, if the tokenizer has one and would. @default false */
  readonly bos?: boolean;
}

/** Tokens and the bytes they stand for. */
export interface Vocab {
  /** Number of ids, including special and unused ones. */
  readonly size: number;
  /** Equal exactly when all ids mean the same: hex digest over pieces and special flags. */
  readonly fingerprint: string;
  /** Begin-of-sequence token, if any. */
  readonly bos: TokenId | undefined;
  /** Tokens that end a completion. */
  readonly stopTokens: ReadonlySet<TokenId>;
  /** Whether the token is a control token. */
  isSpecial(token: TokenId): boolean;
  /** Bytes the token adds to the text, empty for control tokens. @throws {RangeError} unknown id */
  bytes(token: TokenId): Uint8Array;
  /** The piece as the vocabulary writes it, e.g. "<|im_end|>" or "Ġhello". */
  piece(token: TokenId): string;
  encode(text: string, options?: EncodeOptions): TokenId[];
  decode(tokens: readonly TokenId[], options?: { readonly special?: boolean }): string;
  readonly chat: ChatTemplate | undefined;
}

/** Which positions an ask reads: the last `last` ones. */
export interface At {
  /** How many trailing positions, oldest first in the answer. @default 1 */
  readonly last?: number;
}

/** A token and its natural-log probability. */
export interface Candidate {
  readonly token: TokenId;
  readonly logprob: number;
}

/** Log-probabilities of one emitted token, of the raw model distribution (temperature 1, no masks). */
export interface TokenLogprob extends Candidate {
  /** The most likely tokens, best first; as many as asked for. */
  readonly top: readonly Candidate[];
}

/** A token's text and log-probability, where its id means nothing here. */
export interface TextCandidate {
  readonly token: string;
  /** UTF-8; of part of a character, where the token is one. */
  readonly bytes: readonly number[];
  readonly logprob: number;
}

/** An emitted token as text, and what else was likely. */
export interface TextLogprob extends TextCandidate {
  readonly top: readonly TextCandidate[];
}

/** A token drawn by the model. */
export interface Sampled extends TokenLogprob {
  /** Entropy of the raw distribution in nats, where the model can tell. */
  readonly entropy?: number;
  /** Probability of what the mask allowed, where it was asked for and the model can tell. */
  readonly mass?: number;
  /** Text of this piece, for models whose tokens never cross the wire; `token` is -1 then. */
  readonly text?: string;
  /** How many tokens the text stands for. @default 1 */
  readonly count?: number;
  /** What the model thought before this text, where an upstream tells it apart. */
  readonly reasoning?: string;
  /** The text's tokens one by one, where they were asked for and the model tells them. */
  readonly textLogprobs?: readonly TextLogprob[];
}

/** The k most likely tokens of one position. */
export interface TopK {
  /** Best first; ties by lower token id. Natural logs of the raw distribution. */
  readonly candidates: readonly Candidate[];
  /** Probability not covered by the candidates, in [0, 1]. */
  readonly rest: number;
}

/** One draw; data only, so that it can become a WGSL uniform or JSON for an upstream. */
export interface SampleOptions {
  readonly sampling: SamplingParams;
  /** One bit per allowed token, least significant first, [ceil(vocab / 32)]; absent = all. */
  readonly mask?: Uint32Array;
  /** How many most likely raw log-probabilities to return with the token. @default 0 */
  readonly topLogprobs?: number;
  /**
   * Whether to tell the probability of what the mask allows, at this temperature, before filters.
   * @default false
   */
  readonly mass?: boolean;
}

/** Decoding by the model itself. */
export interface GenerateOptions {
  readonly sampling: SamplingParams;
  /** Upper bound on drawn tokens. */
  readonly maxTokens: number;
  /** How many most likely raw log-probabilities to return per token. @default 0 */
  readonly topLogprobs?: number;
  /** Draw beyond the model's stop tokens. @default false */
  readonly ignoreStop?: boolean;
  /** Whether anybody reads the log-probabilities; some models save work without. @default true */
  readonly logprobs?: boolean;
  /** What the text must be; only for models that say they see to it, see `honours`. */
  readonly format?: ConstraintSpec | undefined;
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

/** Whether a prompt is chat messages. An empty prompt counts as tokens. */
export function isMessages(prompt: Prompt): prompt is readonly Message[] {
  return prompt.length > 0 && typeof prompt[0] === "object";
}
