/** One sequence on an executor, its pages chosen by hand: what the engine does, at its simplest. */
import type { Answer, Executor, Row, Want } from "../../runtime/engine/executor.ts";
import { greedySampling } from "../../runtime/sampling.ts";

/** Asks for the most likely token. */
export const greedyWant: Extract<Want, { readonly kind: "sample" }> = {
  kind: "sample",
  sampling: greedySampling,
  topLogprobs: 0,
  promptTokens: [],
  completionTokens: [],
};

/** Tokens that lie on `pages`, in order. */
export class Sequence {
  #length = 0;

  constructor(readonly executor: Executor, readonly pages: Uint32Array) {}

  get length(): number {
    return this.#length;
  }

  /** The row that computes `tokens` next. Counts them as computed. */
  row(tokens: readonly number[], wants: readonly Want[]): Row {
    const { pageSize } = this.executor.info.kv;
    const positions = Uint32Array.from(tokens, (_, i) => this.#length + i);
    this.#length += tokens.length;
    return {
      tokens: Uint32Array.from(tokens),
      positions,
      slots: [
        positions.map((p) => this.pages[Math.floor(p / pageSize)]! * pageSize + p % pageSize),
      ],
      tables: {
        granularity: "sequence",
        pages: [this.pages],
        counts: Uint32Array.of(this.#length),
      },
      wants,
    };
  }

  /** Computes `tokens` in a batch of their own. */
  async run(tokens: readonly number[], wants: readonly Want[]): Promise<readonly Answer[]> {
    const row = this.row(tokens, wants);
    const { answers } = await this.executor.execute({ step: 0, edits: [], rows: [row] });
    return answers[0]!;
  }
}

/** Rows of a "logits" or "hidden" answer. */
export function rowsOf(answer: Answer | undefined): readonly Float32Array[] {
  if (answer?.kind === "logits" || answer?.kind === "hidden") return answer.rows;
  throw new Error(`Expected rows, got ${answer?.kind}`);
}

/** The token of a "sample" answer. */
export function tokenOf(answer: Answer | undefined): number {
  if (answer?.kind === "sample") return answer.token;
  throw new Error(`Expected a token, got ${answer?.kind}`);
}
