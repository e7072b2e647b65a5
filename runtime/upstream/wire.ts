/** What an upstream sends, checked field by field: it is no more trusted than a client. */
import type { TokenId } from "../model.ts";
import type { UpstreamKind } from "./types.ts";

/** A token's text and log-probability as an upstream tells them. */
export interface WireCandidate {
  readonly token: string;
  /** UTF-8 bytes; undefined where the upstream does not say. */
  readonly bytes: readonly number[] | undefined;
  /** Undefined where the upstream does not say. */
  readonly id: TokenId | undefined;
  readonly logprob: number;
}

/** A drawn token and what else was likely. */
export interface WireLogprob extends WireCandidate {
  readonly top: readonly WireCandidate[];
}

/** New output of one choice. */
export interface WirePiece {
  readonly index: number;
  readonly text: string;
  /** What the model thought before the text, where it is told apart. */
  readonly reasoning?: string;
  /** How many events' text it is, where several came at once. @default 1 */
  readonly count?: number;
  readonly tokens: readonly TokenId[] | undefined;
  readonly logprobs: readonly WireLogprob[] | undefined;
  readonly finish: "stop" | "length" | undefined;
}

/** What the upstream says the whole call took. */
export interface WireUsage {
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly cachedTokens: number;
}

/** One event of a stream. */
export interface WireEvent {
  readonly pieces: readonly WirePiece[];
  readonly usage: WireUsage | undefined;
}

/** An event that is not what the API says. The message never quotes it. */
export class WireError extends Error {
  override readonly name = "WireError";
}

/** An error the upstream reports inside an answer that began well. */
export class ReportedError extends Error {
  override readonly name = "ReportedError";
  constructor(readonly status: number | undefined, readonly code: string | undefined) {
    super("it reported an error");
  }
}

type Fields = Readonly<Record<string, unknown>>;

/** JSON object or nothing; prototype members are never mistaken for fields. */
export function parseObject(text: string): Fields | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isFields(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/**
 * One event of a stream.
 *
 * @param choices how many choices were asked for: indices lie below
 * @throws {WireError | ReportedError}
 */
export function readEvent(text: string, kind: UpstreamKind, choices: number): WireEvent {
  const event = parseObject(text);
  if (!event) throw new WireError("an event is not a JSON object");
  if ("error" in event && event.error !== null) throw reported(event);
  if (event.object === "error") throw reported({ error: event });
  const list = event.choices ?? [];
  if (!Array.isArray(list)) throw new WireError("choices is not a list");
  return {
    pieces: list.map((choice) => readChoice(choice, kind, choices)),
    usage: readUsage(event.usage),
  };
}

/** Status and code of an error object, whatever its make. */
export function reported({ error }: Fields): ReportedError {
  if (!isFields(error)) return new ReportedError(undefined, undefined);
  const { code, type, message } = error;
  const status = [code, error.status].find((value) => isInteger(value, 400, 599));
  return new ReportedError(status as number | undefined, knownCode(code, type, message));
}

/** Only what tells clients how to mend their request; never the upstream's own words. */
function knownCode(...hints: readonly unknown[]): string | undefined {
  const text = hints.filter((hint) => typeof hint === "string").join(" ").slice(0, 2000);
  return /context[_ ](length|size|window)|maximum context|exceed_context/i.test(text)
    ? "context_length_exceeded"
    : undefined;
}

function readChoice(value: unknown, kind: UpstreamKind, choices: number): WirePiece {
  if (!isFields(value)) throw new WireError("a choice is not an object");
  const index = value.index ?? 0;
  if (!isInteger(index, 0, choices - 1)) throw new WireError("a choice has an index out of range");
  const reasoning = kind === "chat" ? deltaReasoning(value.delta) : "";
  return {
    index,
    text: kind === "chat" ? deltaText(value.delta) : textOf(value.text),
    ...reasoning === "" ? {} : { reasoning },
    tokens: value.token_ids === undefined ? undefined : readTokens(value.token_ids),
    logprobs: readLogprobs(value.logprobs),
    finish: readFinish(value.finish_reason),
  };
}

function deltaText(delta: unknown): string {
  if (delta === undefined || delta === null) return "";
  if (!isFields(delta)) throw new WireError("a delta is not an object");
  const { tool_calls: calls } = delta;
  if (Array.isArray(calls) && calls.length > 0) {
    throw new WireError("it calls a tool that nobody offered");
  }
  return textOf(delta.content);
}

/** llama.cpp, SGLang and DeepSeek call it one way, vLLM the other. */
function deltaReasoning(delta: unknown): string {
  return isFields(delta) ? textOf(delta.reasoning_content ?? delta.reasoning) : "";
}

function textOf(value: unknown): string {
  if (typeof value === "string") return value;
  if (value === undefined || value === null) return "";
  throw new WireError("a text is not a string");
}

function readFinish(value: unknown): WirePiece["finish"] {
  if (value === undefined || value === null || value === "") return undefined;
  if (value === "stop" || value === "length") return value;
  throw new WireError(
    value === "content_filter"
      ? "its content filter ended the answer"
      : "it ended in an unknown way",
  );
}

function readTokens(value: unknown): TokenId[] | undefined {
  if (value === null) return undefined;
  if (!Array.isArray(value) || !value.every((token) => isInteger(token, 0, 2 ** 31 - 1))) {
    throw new WireError("token_ids is not a list of token ids");
  }
  return value;
}

/** Both shapes: `content` (chat; llama.cpp everywhere), and parallel lists (completions). */
function readLogprobs(value: unknown): WireLogprob[] | undefined {
  if (value === undefined || value === null) return undefined;
  if (!isFields(value)) throw new WireError("logprobs is not an object");
  if (Array.isArray(value.content)) {
    return value.content.map((entry) => ({
      ...readCandidate(entry),
      top: list((entry as Fields).top_logprobs).map(readCandidate),
    }));
  }
  if (!Array.isArray(value.tokens)) return undefined;
  const { tokens } = value;
  const values = list(value.token_logprobs);
  const tops = list(value.top_logprobs);
  if (values.length !== tokens.length) throw new WireError("logprobs has lists of two lengths");
  return tokens.map((token, i) => ({
    ...candidate(token, values[i]),
    top: isFields(tops[i])
      ? Object.entries(tops[i]).map(([text, one]) => candidate(text, one))
      : [],
  }));
}

function readCandidate(value: unknown): WireCandidate {
  if (!isFields(value)) throw new WireError("a log-probability is not an object");
  const { token, logprob, bytes, id } = value;
  return {
    ...candidate(token, logprob),
    bytes: Array.isArray(bytes) && bytes.every((byte) => isInteger(byte, 0, 255))
      ? bytes
      : undefined,
    ...isInteger(id, 0, 2 ** 31 - 1) ? { id } : {},
  };
}

/** vLLM writes "token_id:42" when asked for ids. */
function candidate(token: unknown, logprob: unknown): WireCandidate {
  if (typeof token !== "string") throw new WireError("a token is not a string");
  if (typeof logprob !== "number" || logprob > 1e-3) {
    throw new WireError("a log-probability is not a number of at most 0");
  }
  const id = /^token_id:(\d{1,9})$/.exec(token)?.[1];
  return {
    token,
    bytes: undefined,
    id: id === undefined ? undefined : Number(id),
    logprob: Math.min(0, logprob),
  };
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function readUsage(value: unknown): WireUsage | undefined {
  if (!isFields(value)) return undefined;
  const count = (field: unknown) => isInteger(field, 0, 1e9) ? field : 0;
  const details = isFields(value.prompt_tokens_details) ? value.prompt_tokens_details : {};
  return {
    promptTokens: count(value.prompt_tokens),
    completionTokens: count(value.completion_tokens),
    cachedTokens: count(details.cached_tokens),
  };
}

/** Whether the value is a JSON object. */
export function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isInteger(value: unknown, from: number, to: number): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= from && value <= to;
}
