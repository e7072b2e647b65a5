/** EngineSession: the handle strategies hold. A session is a value; the sequence behind it may change. */
import { ClosedError, ContextLengthError, OutOfPagesError } from "../errors.ts";
import type {
  At,
  GenerateOptions,
  Sampled,
  SampleOptions,
  Session,
  TokenId,
  TokenTree,
  TopK,
} from "../model.ts";
import { type AskSpec, expectKind } from "./ask.ts";
import type { Answer, ExecutorInfo } from "./executor.ts";
import {
  hiddenSpec,
  requireTokens,
  rowsSpec,
  sampleSpec,
  scoreSpec,
  topkSpec,
  treeSpec,
} from "./queries.ts";
import type { ScopeState } from "./scope.ts";
import type { Sequence } from "./sequence.ts";
import type { StepLoop } from "./step_loop.ts";
import { generate } from "./stream.ts";

/** What sessions share with their engine. */
export interface SessionHost {
  readonly info: ExecutorInfo;
  readonly loop: StepLoop;
  readonly stopTokens: ReadonlySet<TokenId>;
  readonly opened: (session: EngineSession, scope: ScopeState) => void;
  readonly closed: (session: EngineSession, scope: ScopeState) => void;
}

/** See file comment. */
export class EngineSession implements Session {
  readonly #host: SessionHost;
  readonly #scope: ScopeState;
  #sequence: Sequence;
  #closedBy: { readonly reason: unknown } | undefined;

  constructor(host: SessionHost, sequence: Sequence) {
    this.#host = host;
    this.#scope = sequence.scope;
    this.#sequence = sequence;
    host.opened(this, this.#scope);
  }

  get tokens(): readonly TokenId[] {
    return this.#sequence.tokens;
  }

  get length(): number {
    return this.#sequence.tokens.length;
  }

  get committed(): number {
    return this.#sequence.committed;
  }

  append(tokens: readonly TokenId[]): void {
    this.#requireOpen();
    const { vocab, contextLength } = this.#host.info;
    requireTokens(tokens, vocab);
    const length = this.length + tokens.length;
    if (length > contextLength && !this.#scope.turns) {
      throw new ContextLengthError(length, 0, contextLength);
    }
    this.#sequence.append(tokens);
    this.#scope.meter.drawnTokens += tokens.length;
  }

  truncate(length: number): void {
    this.#requireOpen();
    const { committed } = this;
    if (!Number.isInteger(length) || length < committed || length > this.length) {
      throw new RangeError(
        `Cannot truncate to ${length}: must be between ${committed} and ${this.length}`,
      );
    }
    if (length === this.length) return;
    const old = this.#sequence;
    if (old.asks > 0 || old.isBusy) { // they were asked of the value as it was
      this.#sequence = old.fork();
      old.isHeld = false;
      old.releaseIfUnused();
    }
    this.#sequence.truncate(length);
  }

  fork(): this {
    this.#requireOpen();
    // The class is final, so `this` is EngineSession.
    return new EngineSession(this.#host, this.#sequence.fork()) as this;
  }

  generate(options: GenerateOptions): AsyncIterable<Sampled> {
    return generate(this, this.#host.stopTokens, options);
  }

  sample(options: SampleOptions): Promise<Sampled> {
    return this.#ask((asked) => sampleSpec(asked, options), (answer) => {
      const { kind: _, ...sampled } = expectKind(answer, "sample");
      return sampled;
    });
  }

  topk(k: number, at?: At): Promise<readonly TopK[]> {
    return this.#ask((asked) => topkSpec(asked, k, at), (a) => expectKind(a, "topk").rows);
  }

  score(at: At): Promise<Float32Array> {
    return this.#ask((asked) => scoreSpec(asked, at), (a) => expectKind(a, "score").values);
  }

  logits(at?: At): Promise<readonly Float32Array[]> {
    return this.#ask((s) => rowsSpec(s, "logits", at), (a) => expectKind(a, "logits").rows);
  }

  entropy(at?: At): Promise<Float32Array> {
    return this.#ask((s) => rowsSpec(s, "entropy", at), (a) => expectKind(a, "entropy").values);
  }

  hidden(layer: number, at?: At): Promise<readonly Float32Array[]> {
    return this.#ask((s) => hiddenSpec(s, layer, at), (a) => expectKind(a, "hidden").rows);
  }

  tree(tree: TokenTree): Promise<readonly Float32Array[]> {
    if (tree.tokens.length === 0 && this.#closedBy === undefined) return Promise.resolve([]);
    return this.#ask((asked) => treeSpec(asked, tree), (a) => expectKind(a, "logits").rows);
  }

  [Symbol.dispose](): void {
    this.close(new ClosedError("The session was closed"));
  }

  /** Closes the session; its asks reject with `reason`, and so do later ones. */
  close(reason: unknown): void {
    if (this.#closedBy !== undefined) return;
    this.#closedBy = { reason };
    this.#host.loop.reject(this, reason);
    this.#sequence.isHeld = false;
    this.#sequence.releaseIfUnused();
    this.#host.closed(this, this.#scope);
  }

  async #ask<T>(
    specify: (
      asked: { tokens: readonly TokenId[]; promptLength: number; info: ExecutorInfo },
    ) => AskSpec,
    read: (answer: Answer) => T,
  ): Promise<T> {
    if (this.#closedBy !== undefined) throw this.#closedBy.reason;
    const { info, loop } = this.#host;
    const sequence = this.#sequence;
    const { tokens, promptLength } = sequence;
    const spec = specify({ tokens, promptLength, info });
    this.#requirePages(spec);
    return read(await loop.ask(this, sequence, spec));
  }

  /** Refused at once, instead of after having computed all that fits. */
  #requirePages({ end, query }: AskSpec): void {
    const { info } = this.#host;
    if (!this.#scope.policy.lossless) return;
    const slots = end + (query.kind === "tree" ? query.tokens.length : 0);
    const needed = Math.ceil(slots / info.kv.pageSize);
    if (needed > info.pages) throw new OutOfPagesError(needed, info.pages);
  }

  #requireOpen(): void {
    if (this.#closedBy !== undefined) throw new ClosedError("The session was closed");
  }
}
