/** A model whose rows of logits are computed once per sequence: for runs by the thousand on small problems. */
import {
  type At,
  encodePrompt,
  isMessages,
  type LanguageModel,
  type Prompt,
  type SampleOptions,
  type Session,
  type SessionOptions,
  type TokenId,
  type Vocab,
} from "../../runtime/mod.ts";
import { sampleRow } from "../../runtime/sampling.ts";

type Able = "edit" | "logits" | "sample" | "generate";

/** Rows of a model by sequence. */
export interface Memo {
  readonly model: LanguageModel<Able>;
  /** Logits after a sequence, from the model or from memory. */
  row(tokens: readonly TokenId[]): Promise<Float32Array>;
}

/** Wraps a model; all sessions share what was computed. */
export function memoize(inner: LanguageModel<"edit" | "logits"> & { readonly vocab: Vocab }): Memo {
  const rows = new Map<string, Promise<Float32Array>>();
  const row = (tokens: readonly TokenId[]) => {
    const key = tokens.join();
    const known = rows.get(key);
    if (known) return known;
    const computed = compute(inner, tokens);
    rows.set(key, computed);
    return computed;
  };
  const { vocab } = inner;
  return {
    row,
    model: {
      id: inner.id,
      vocab,
      contextLength: inner.contextLength,
      capabilities: new Set<Able>(["edit", "logits", "sample", "generate"]),
      session(prompt: Prompt, options: SessionOptions = {}) {
        const tokens = isMessages(prompt)
          ? encodePrompt(prompt, vocab, { model: inner.id })
          : prompt;
        return new MemoSession(row, [...tokens], tokens.length, options);
      },
    },
  };
}

async function compute(model: LanguageModel<"edit" | "logits">, tokens: readonly TokenId[]) {
  using session = model.session(tokens);
  const [logits] = await session.logits();
  return logits!;
}

class MemoSession implements Session<Able> {
  readonly committed = 0;
  readonly #row: Memo["row"];
  readonly #tokens: TokenId[];
  readonly #promptLength: number;
  readonly #options: SessionOptions;

  constructor(row: Memo["row"], tokens: TokenId[], promptLength: number, options: SessionOptions) {
    this.#row = row;
    this.#tokens = tokens;
    this.#promptLength = promptLength;
    this.#options = options;
  }

  get tokens(): readonly TokenId[] {
    return this.#tokens;
  }

  get length(): number {
    return this.#tokens.length;
  }

  append(tokens: readonly TokenId[]): void {
    this.#tokens.push(...tokens);
    if (this.#options.scope) this.#options.scope.meter.drawnTokens += tokens.length;
  }

  truncate(length: number): void {
    this.#tokens.length = length;
  }

  async logits({ last = 1 }: At = {}): Promise<readonly Float32Array[]> {
    const ends = Array.from({ length: last }, (_, i) => this.length - last + 1 + i);
    return await Promise.all(
      ends.map(async (end) => (await this.#row(this.#tokens.slice(0, end))).slice()),
    );
  }

  async sample({ sampling, mask, topLogprobs = 0 }: SampleOptions) {
    const [logits] = await this.logits();
    return sampleRow(logits!, {
      sampling,
      mask,
      topLogprobs,
      position: this.length,
      promptTokens: this.#tokens.slice(0, this.#promptLength),
      completionTokens: this.#tokens.slice(this.#promptLength),
    });
  }

  generate(): never {
    throw new TypeError("Constrained runs draw one token at a time");
  }

  fork(): this {
    return new MemoSession(
      this.#row,
      [...this.#tokens],
      this.#promptLength,
      this.#options,
    ) as this; // the class is final
  }

  [Symbol.dispose](): void {}
}
