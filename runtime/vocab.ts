/** Prompts, chats and tokens: what goes between text and a model. */

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

/** Whether a prompt is chat messages. An empty prompt counts as tokens. */
export function isMessages(prompt: Prompt): prompt is readonly Message[] {
  return prompt.length > 0 && typeof prompt[0] === "object";
}
