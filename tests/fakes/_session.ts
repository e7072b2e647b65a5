/** Sessions of the fakes: every capability, with the rules of the real ones. */
import {
  type At,
  ClosedError,
  ContextLengthError,
  type GenerateOptions,
  type RequestScope,
  type Sampled,
  type SampleOptions,
  type Session,
  type TokenId,
  type TokenTree,
  type TopK,
  type Vocab,
} from "../../runtime/mod.ts";
import { allowedMass, entropy, logNormalizer, sampleRow, topK } from "../../runtime/sampling.ts";
import type { FakeEngine } from "./_engine.ts";

/** What makes one fake different from another. */
export interface FakeBrain {
  readonly vocab: Vocab;
  readonly contextLength: number;
  /** Logits [vocab] after these tokens. The session copies them before handing them out. */
  logits(tokens: readonly TokenId[]): Float32Array;
  /** Hidden state after these tokens at one layer. */
  hidden(tokens: readonly TokenId[], layer: number): Float32Array;
}

/** Where a session starts. */
export interface FakeSessionStart {
  readonly tokens: readonly TokenId[];
  readonly promptLength: number;
  readonly rollback: number;
  readonly scope: RequestScope | undefined;
  readonly committed: number;
  readonly computed: number;
}

/** A live sequence at a fake. */
export class FakeSession implements Session {
  readonly #engine: FakeEngine;
  readonly #brain: FakeBrain;
  readonly #start: FakeSessionStart;
  #tokens: TokenId[];
  #committed: number;
  #computed: number;
  #closed = false;

  constructor(engine: FakeEngine, brain: FakeBrain, start: FakeSessionStart) {
    this.#engine = engine;
    this.#brain = brain;
    this.#start = start;
    this.#tokens = [...start.tokens];
    this.#committed = start.committed;
    this.#computed = start.computed;
    engine.opened();
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
    this.#requireOpen();
    const { contextLength, vocab } = this.#brain;
    for (const token of tokens) vocab.bytes(token); // refuses unknown ids
    if (this.length + tokens.length > contextLength) {
      throw new ContextLengthError(this.length + tokens.length, 0, contextLength);
    }
    this.#tokens.push(...tokens);
    if (this.#start.scope) this.#start.scope.meter.drawnTokens += tokens.length;
  }

  truncate(length: number): void {
    this.#requireOpen();
    if (!Number.isInteger(length) || length < this.#committed || length > this.length) {
      throw new RangeError(
        `Cannot truncate to ${length}: must be between ${this.#committed} and ${this.length}`,
      );
    }
    this.#tokens.length = length;
    this.#computed = Math.min(this.#computed, length);
  }

  fork(): this {
    this.#requireOpen();
    return new FakeSession(this.#engine, this.#brain, {
      ...this.#start,
      tokens: this.#tokens,
      committed: this.#committed,
      computed: this.#computed,
    }) as this; // the class is final, so `this` is FakeSession
  }

  async *generate(options: GenerateOptions): AsyncGenerator<Sampled, void, void> {
    const { sampling, maxTokens, topLogprobs = 0, ignoreStop = false } = options;
    for (let drawn = 0; drawn < maxTokens; drawn++) {
      const sampled = await this.sample({ sampling, topLogprobs });
      this.append([sampled.token]);
      yield sampled;
      if (!ignoreStop && this.#brain.vocab.stopTokens.has(sampled.token)) return;
    }
  }

  sample({ sampling, mask, topLogprobs = 0, mass = false }: SampleOptions): Promise<Sampled> {
    return this.#ask(() => {
      const row = this.#row(this.length);
      const context = {
        sampling,
        mask,
        promptTokens: this.#tokens.slice(0, this.#start.promptLength),
        completionTokens: this.#tokens.slice(this.#start.promptLength),
      };
      return {
        ...sampleRow(row, { ...context, topLogprobs, position: this.length }),
        ...mass && mask ? { mass: allowedMass(row, mask, context) } : {},
      };
    });
  }

  topk(k: number, at?: At): Promise<readonly TopK[]> {
    return this.#ask(() => this.#lengths(at).map((length) => topK(this.#row(length), k)));
  }

  score(at: At): Promise<Float32Array> {
    return this.#ask(() =>
      Float32Array.from(this.#lengths(at), (length) => {
        const row = this.#row(length - 1);
        return row[this.#tokens[length - 1]!]! - logNormalizer(row);
      })
    );
  }

  logits(at?: At): Promise<readonly Float32Array[]> {
    return this.#ask(() => this.#lengths(at).map((length) => this.#row(length).slice()));
  }

  entropy(at?: At): Promise<Float32Array> {
    return this.#ask(() =>
      Float32Array.from(this.#lengths(at), (length) => entropy(this.#row(length)))
    );
  }

  hidden(layer: number, at?: At): Promise<readonly Float32Array[]> {
    return this.#ask(() =>
      this.#lengths(at).map((length) => this.#brain.hidden(this.#tokens.slice(0, length), layer))
    );
  }

  tree({ tokens, parents }: TokenTree): Promise<readonly Float32Array[]> {
    return this.#ask(() => {
      const { scope } = this.#start;
      if (scope) scope.meter.computedTokens += tokens.length;
      const paths: TokenId[][] = [];
      tokens.forEach((token, i) => {
        const parent = parents[i]!;
        if (parent >= i) throw new RangeError(`Node ${i} stands before its parent ${parent}`);
        paths.push([...parent < 0 ? this.#tokens : paths[parent]!, token]);
      });
      return paths.map((path) => this.#brain.logits(path).slice());
    });
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#engine.closed();
    this.#engine.reject(({ owner }) => owner === this, new ClosedError("The session was closed"));
  }

  /** Answers are functions of the tokens, so they are computed now and delivered with the step. */
  async #ask<T>(compute: () => T): Promise<T> {
    this.#requireOpen();
    const value = compute();
    const length = this.length;
    const answer = await this.#engine.ask(this, this.#start.scope, value);
    this.#settle(Math.min(length, this.length));
    return answer;
  }

  /** After a step: what is computed, and what can no longer be taken back. */
  #settle(length: number): void {
    const { scope, rollback } = this.#start;
    if (scope) scope.meter.computedTokens += Math.max(0, length - this.#computed);
    this.#computed = Math.max(this.#computed, length);
    this.#committed = Math.max(this.#committed, length - rollback);
  }

  #row(length: number): Float32Array {
    if (length < 1) throw new RangeError("There is nothing before the first token to read from");
    return this.#brain.logits(
      length === this.length ? this.#tokens : this.#tokens.slice(0, length),
    );
  }

  /** Sequence lengths behind the last `last` positions, oldest first. */
  #lengths({ last = 1 }: At = {}): number[] {
    if (!Number.isInteger(last) || last < 1 || last > this.length) {
      throw new RangeError(`Cannot read the last ${last} of ${this.length} positions`);
    }
    return Array.from({ length: last }, (_, i) => this.length - last + 1 + i);
  }

  #requireOpen(): void {
    if (this.#closed) throw new ClosedError("The session was closed");
  }
}
