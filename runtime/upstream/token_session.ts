/** A session at an upstream's completions route: tokens that can be edited. */
import { CapabilityError, ContextLengthError } from "../errors.ts";
import type {
  At,
  GenerateOptions,
  RequestScope,
  Sampled,
  SessionCore,
  TokenId,
  TopK,
} from "../model.ts";
import { greedySampling } from "../sampling.ts";
import { requireOpen } from "./chat_session.ts";
import type { UpstreamEngine } from "./engine.ts";
import { failure } from "./failure.ts";
import type { Member } from "./group.ts";
import { candidatesOf, drawnTokens, vocabOf } from "./tokens.ts";

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
