/** Sessions at an upstream: a prompt that can be answered, or tokens that can be edited. */
import { CapabilityError, ClosedError, ContextLengthError } from "../errors.ts";
import {
  type At,
  type Candidate,
  type GenerateOptions,
  type RequestScope,
  type Sampled,
  type SessionCore,
  type TextLogprob,
  type TokenId,
  type TopK,
  type Vocab,
} from "../model.ts";
import type { ChatOptions, Message } from "../model.ts";
import { greedySampling } from "../sampling.ts";
import { failure } from "./failure.ts";
import type { Member } from "./group.ts";
import type { UpstreamEngine } from "./engine.ts";
import type { WireCandidate, WireLogprob, WirePiece } from "./wire.ts";

const utf8 = new TextEncoder();

/** A chat that can be forked and answered once; there is no way to continue an answer. */
export class ChatSession implements SessionCore {
  readonly #engine: UpstreamEngine;
  readonly #prompt: readonly Message[];
  readonly #chat: ChatOptions;
  readonly #scope: RequestScope;
  readonly #members = new Set<Member>();
  #isAnswered = false;
  #isClosed = false;
  ended: "stop" | "length" | undefined;

  constructor(
    engine: UpstreamEngine,
    prompt: readonly Message[],
    chat: ChatOptions,
    scope: RequestScope,
  ) {
    this.#engine = engine;
    this.#prompt = prompt;
    this.#chat = chat;
    this.#scope = scope;
  }

  fork(): this {
    requireOpen(this.#isClosed);
    const copy = new ChatSession(this.#engine, this.#prompt, this.#chat, this.#scope);
    copy.#isAnswered = this.#isAnswered;
    return copy as this; // the class is final, so `this` is ChatSession
  }

  async *generate(options: GenerateOptions): AsyncGenerator<Sampled, void, void> {
    requireOpen(this.#isClosed);
    if (this.#isAnswered) {
      throw new ClosedError("A chat at an upstream can be answered once; fork it before");
    }
    this.#isAnswered = true;
    this.ended = undefined;
    const { meter } = this.#scope;
    const member = await this.#engine.generate({
      prompt: this.#prompt,
      chat: this.#chat,
      options,
      scope: this.#scope,
    });
    this.#members.add(member);
    try {
      requireOpen(this.#isClosed);
      for (let piece = await member.next(); piece; piece = await member.next()) {
        this.ended = piece.finish ?? this.ended;
        if (options.logprobs === true && piece.text !== "" && !piece.logprobs) {
          throw failure(this.#engine.id, "invalid", "it told no log-probabilities");
        }
        const sampled = textPiece(piece, options);
        if (sampled.text === "" && sampled.count === 0) continue;
        meter.drawnTokens += sampled.count ?? 1;
        yield sampled;
      }
    } finally {
      member.close();
      this.#members.delete(member);
    }
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    for (const member of this.#members) member.close();
  }
}

function requireOpen(isClosed: boolean): void {
  if (isClosed) throw new ClosedError("The session was closed");
}

function textPiece(
  { text, reasoning, count = text === "" && reasoning === undefined ? 0 : 1, logprobs }: WirePiece,
  { logprobs: isRead = true }: GenerateOptions,
) {
  const told = isRead ? logprobs : undefined;
  return {
    token: -1,
    logprob: told?.length === 1 ? told[0]!.logprob : NaN,
    top: [],
    text,
    count: told?.length ?? count,
    ...reasoning === undefined ? {} : { reasoning },
    ...told ? { textLogprobs: told.map(textLogprob) } : {},
  } satisfies Sampled;
}

function textLogprob({ top, ...candidate }: WireLogprob): TextLogprob {
  return { ...textCandidate(candidate), top: top.map(textCandidate) };
}

function textCandidate({ token, bytes, logprob }: WireCandidate) {
  return { token, bytes: bytes ?? [...utf8.encode(token)], logprob };
}

/** Where a token session starts. */
interface TokenStart {
  readonly tokens: readonly TokenId[];
  readonly rollback: number;
  readonly scope: RequestScope;
  readonly committed: number;
}

/** A sequence of tokens. Every ask sends it whole and relies on the server's prefix cache. */
export class TokenSession implements SessionCore {
  readonly #engine: UpstreamEngine;
  readonly #start: TokenStart;
  readonly #members = new Set<Member>();
  #tokens: TokenId[];
  #committed: number;
  #isClosed = false;
  ended: "stop" | "length" | undefined;

  constructor(engine: UpstreamEngine, start: TokenStart) {
    this.#engine = engine;
    this.#start = start;
    this.#tokens = [...start.tokens];
    this.#committed = start.committed;
  }

  get tokens(): readonly TokenId[] {
    return this.#tokens;
  }

  get length(): number {
    return this.#tokens.length;
  }

  get committed(): number {
    return this.#committed;
  }

  append(tokens: readonly TokenId[]): void {
    requireOpen(this.#isClosed);
    const { contextLength } = this.#engine;
    const vocab = vocabOf(this.#engine);
    for (const token of tokens) vocab.bytes(token); // refuses unknown ids
    if (this.length + tokens.length > contextLength) {
      throw new ContextLengthError(this.length + tokens.length, 0, contextLength);
    }
    this.#tokens.push(...tokens);
    this.#start.scope.meter.drawnTokens += tokens.length;
  }

  truncate(length: number): void {
    requireOpen(this.#isClosed);
    if (!Number.isInteger(length) || length < this.#committed || length > this.length) {
      throw new RangeError(
        `Cannot truncate to ${length}: must be between ${this.#committed} and ${this.length}`,
      );
    }
    this.#tokens.length = length;
  }

  fork(): this {
    requireOpen(this.#isClosed);
    return new TokenSession(this.#engine, {
      ...this.#start,
      tokens: this.#tokens,
      committed: this.#committed,
    }) as this; // the class is final, so `this` is TokenSession
  }

  async *generate(options: GenerateOptions): AsyncGenerator<Sampled, void, void> {
    const { maxTokens, topLogprobs = 0, ignoreStop = false } = options;
    const vocab = vocabOf(this.#engine);
    const member = await this.#open(options);
    try {
      let drawn = 0;
      for (let piece = await member.next(); piece; piece = await member.next()) {
        this.ended = piece.finish ?? this.ended;
        for (const sampled of drawnTokens(piece, this.#engine, topLogprobs)) {
          if (drawn++ >= maxTokens) return;
          requireOpen(this.#isClosed);
          this.#settle();
          this.append([sampled.token]);
          yield sampled;
          if (!ignoreStop && vocab.stopTokens.has(sampled.token)) return;
        }
      }
    } finally {
      member.close();
      this.#members.delete(member);
    }
  }

  /** One call that draws a token nobody keeps. Only the last position can be read. */
  async topk(k: number, { last = 1 }: At = {}): Promise<readonly TopK[]> {
    if (last !== 1) throw new RangeError("An upstream tells the last position's candidates only");
    const { id, profile: { completionLogprobs: most = 0 } } = this.#engine;
    if (k > most) throw new CapabilityError(id, [`more than ${most} alternatives per token`]);
    // Servers hide the token that stops them, and with it what else was likely.
    const ignoreStop = this.#engine.profile.ignoreEos;
    const options = { sampling: greedySampling, maxTokens: 1, topLogprobs: k, ignoreStop };
    const member = await this.#open(options);
    try {
      for (let piece = await member.next(); piece; piece = await member.next()) {
        const [first] = piece.logprobs ?? [];
        if (!first) continue;
        this.#settle();
        const candidates = candidatesOf(first, this.#engine, k);
        const seen = candidates.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0);
        return [{ candidates, rest: Math.max(0, 1 - seen) }];
      }
    } finally {
      member.close();
      this.#members.delete(member);
    }
    throw failure(this.#engine.id, "invalid", "it told no log-probabilities");
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    for (const member of this.#members) member.close();
  }

  async #open(options: GenerateOptions): Promise<Member> {
    requireOpen(this.#isClosed);
    this.ended = undefined;
    const member = await this.#engine.generate({
      prompt: [...this.#tokens],
      chat: {},
      options,
      scope: this.#start.scope,
    });
    this.#members.add(member);
    return member;
  }

  /** What was asked about is settled, but for the rollback window. */
  #settle(): void {
    this.#committed = Math.max(this.#committed, this.length - this.#start.rollback);
  }
}

/** Token sessions are opened only where there is one. */
function vocabOf({ id, vocab }: UpstreamEngine): Vocab {
  if (!vocab) throw new TypeError(`Upstream ${id} has no vocabulary`);
  return vocab;
}

/** A piece's tokens, by id. @throws {UpstreamError} if they are not told, or make no sense */
function* drawnTokens(
  { text, tokens, logprobs, finish }: WirePiece,
  engine: UpstreamEngine,
  topLogprobs: number,
): Generator<Sampled, void, void> {
  const vocab = vocabOf(engine);
  const ids = tokens ?? logprobs?.map((entry) => idOf(entry, vocab));
  if (!ids) {
    if (text === "") return;
    throw failure(engine.id, "invalid", "it does not tell token ids");
  }
  // Some show the token that stopped them without its log-probability.
  const isShort = finish === "stop" && ids.length === (logprobs?.length ?? 0) + 1;
  if (logprobs && logprobs.length !== ids.length && !isShort) {
    throw failure(engine.id, "invalid", "tokens and log-probabilities do not go together");
  }
  for (const [i, token] of ids.entries()) {
    if (token === undefined || token >= vocab.size) {
      throw failure(engine.id, "invalid", "it drew a token outside the vocabulary");
    }
    const told = logprobs?.[i];
    yield {
      token,
      logprob: told?.logprob ?? NaN,
      top: told && topLogprobs > 0 ? candidatesOf(told, engine, topLogprobs) : [],
    };
  }
}

/** The k best of a position whose ids are known, best first; the others count as unseen. */
function candidatesOf(
  { top, ...drawn }: WireLogprob,
  engine: UpstreamEngine,
  k: number,
): Candidate[] {
  const vocab = vocabOf(engine);
  const best = new Map<TokenId, number>();
  for (const candidate of [drawn, ...top]) {
    const token = idOf(candidate, vocab);
    if (token !== undefined && token < vocab.size) best.set(token, candidate.logprob);
  }
  return [...best].map(([token, logprob]) => ({ token, logprob }))
    .sort((a, b) => b.logprob - a.logprob || a.token - b.token)
    .slice(0, k);
}

function idOf({ id, token, bytes }: WireCandidate, vocab: Vocab): TokenId | undefined {
  return id ?? idsByText(vocab).get(bytes ? textKey(Uint8Array.from(bytes)) : token);
}

const known = new WeakMap<Vocab, ReadonlyMap<string, TokenId>>();

/** Token ids by their text, where only one token has it. */
function idsByText(vocab: Vocab): ReadonlyMap<string, TokenId> {
  let ids = known.get(vocab);
  if (!ids) known.set(vocab, ids = indexOf(vocab));
  return ids;
}

function indexOf(vocab: Vocab): ReadonlyMap<string, TokenId> {
  const ids = new Map<string, TokenId>();
  const shared = new Set<string>();
  for (let token = 0; token < vocab.size; token++) {
    const text = vocab.isSpecial(token) ? vocab.piece(token) : textKey(vocab.bytes(token));
    if (text === "") continue;
    if (ids.has(text)) shared.add(text);
    else ids.set(text, token);
  }
  for (const text of shared) ids.delete(text);
  return ids;
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

function textKey(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}
