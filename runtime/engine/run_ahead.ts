/**
 * Run-ahead: where results are slow to come back from a device, the next steps are started before the
 * host has seen the tokens of this one. What comes next is guessed: the same rows, each longer by the
 * token it drew, in the next slot of its page. A batch that was guessed right finds its answer on the
 * way; any other drops the guesses, whose K and V lie in slots nobody counts yet.
 */
import type { AttentionRow, Backend, Drawn, DrawSpec, Tensor } from "../backend/backend.ts";
import { hasPenalties, type SamplingParams } from "../sampling.ts";
import type { Answer, Batch, BatchResult, Row, Want } from "./executor.ts";

type SampleWant = Extract<Want, { readonly kind: "sample" }>;

/** Steps that are guessed at once at most: what one wait for the device (11 ms) is worth. */
const MOST = 16;
/** Steps without a guess after a wrong one, so that little is computed in vain where guesses fail. */
const PAUSE = 3;

/** The step that was just recorded. */
export interface RecordedStep {
  readonly tokens: Uint32Array;
  readonly positions: Uint32Array;
  readonly rows: readonly AttentionRow[];
  readonly draws: readonly DrawSpec[];
  readonly result: Tensor;
}

/** See file comment. */
export class RunAhead {
  readonly #backend: Backend;
  readonly #pageSize: number;
  /** The batch whose steps are guessed. */
  #base: Batch | undefined;
  #guesses: Promise<readonly (Drawn | undefined)[]>[] = [];
  /** Steps taken since `#base`, and what the last one drew. */
  #taken = 0;
  #drawn: readonly number[] = [];
  /** How many to guess: doubled when all were right. */
  #depth = 1;
  #pause = 0;

  constructor(backend: Backend, pageSize: number) {
    this.#backend = backend;
    this.#pageSize = pageSize;
  }

  /** The answer of a batch that was guessed; undefined if it has to be computed. */
  async take(batch: Batch): Promise<BatchResult | undefined> {
    if (this.#base === undefined) return undefined;
    const guess = this.#guesses.shift();
    if (guess === undefined || !this.#isNext(batch)) {
      this.#drop(guess === undefined);
      return undefined;
    }
    const drawn = await guess.catch((error) => {
      this.cancel();
      throw error;
    });
    const result = resultOf(drawn);
    if (result === undefined) return this.cancel(); // the host has to draw
    this.settle(result);
    this.#taken++;
    return result;
  }

  /**
   * Guesses what follows a step, before its results are waited for.
   *
   * @returns what the step itself drew; undefined if there was nothing to guess
   */
  start(
    batch: Batch,
    { draws, ...step }: RecordedStep,
  ): Promise<readonly (Drawn | undefined)[]> | undefined {
    const { runAhead } = this.#backend;
    if (runAhead === undefined || !batch.rows.every(isPlain) || batch.signals?.length) {
      return undefined;
    }
    if (this.#pause > 0) {
      this.#pause--;
      return undefined;
    }
    const room = Math.min(...batch.rows.map((row) => this.#roomOf(row)));
    const times = Math.min(room, this.#depth, MOST);
    if (times <= 0 || draws.length !== batch.rows.length) return undefined;
    const [own, ...guesses] = runAhead(step, draws, times);
    this.#base = batch;
    this.#taken = 0;
    this.#guesses = guesses;
    return own;
  }

  /** What the latest step drew. */
  settle(answers: BatchResult): void {
    if (this.#base === undefined) return;
    this.#drawn = answers.answers.map(([answer]) => answer?.kind === "sample" ? answer.token : -1);
  }

  /** Drops all guesses. */
  cancel(): undefined {
    this.#drop(false);
  }

  #drop(wasRight: boolean): void {
    this.#depth = wasRight ? Math.min(MOST, 2 * this.#depth) : 1;
    this.#pause = wasRight ? 0 : PAUSE;
    this.#base = undefined;
    this.#guesses = [];
  }

  /** Slots left in the row's page, and parts of attention left in its dispatches. */
  #roomOf({ slots, tables }: Row): number {
    const inPage = this.#pageSize - 1 - slots[0]![0]! % this.#pageSize;
    // Dispatches are laid out for counts up to the next power of two of 64 slots.
    const count = tables.counts[0]!;
    return Math.min(
      inPage,
      64 * 2 ** Math.ceil(Math.log2(Math.max(1, Math.ceil(count / 64)))) - count,
    );
  }

  /** Whether a batch is the base, `#taken + 1` tokens later. */
  #isNext({ rows, edits, signals }: Batch): boolean {
    const base = this.#base!.rows, by = this.#taken + 1;
    if (edits.length > 0 || signals?.length || rows.length !== base.length) return false;
    return rows.every((row, r) => {
      const old = base[r]!;
      return isPlain(row) && row.tokens[0] === this.#drawn[r] &&
        row.positions[0] === old.positions[0]! + by &&
        row.slots[0]![0] === old.slots[0]![0]! + by &&
        row.tables.counts[0] === old.tables.counts[0]! + by &&
        isEqual(row.tables.pages[0]!, old.tables.pages[0]!) &&
        isSame((row.wants[0] as SampleWant).sampling, (old.wants[0] as SampleWant).sampling);
    });
  }
}

/** Draws as the answers of a batch; undefined if the host has to make one of them. */
export function resultOf(drawn: readonly (Drawn | undefined)[]): BatchResult | undefined {
  const answers: Answer[][] = [];
  for (const one of drawn) {
    if (one === undefined) return undefined;
    answers.push([{ kind: "sample", ...one, top: [] }]);
  }
  return { answers };
}

/** One token, one draw that depends on nothing but the row, one table, nothing recorded. */
function isPlain(row: Row): boolean {
  const [want] = row.wants, { granularity, encoded, read, sight } = row.tables;
  return row.tokens.length === 1 && row.wants.length === 1 && want?.kind === "sample" &&
    row.treeMask === undefined && row.next === undefined && granularity === "sequence" &&
    encoded === undefined && read === undefined && sight === undefined && row.rule === undefined &&
    row.adapter === undefined && !row.signals?.length &&
    want.mask === undefined && want.topLogprobs === 0 && !hasPenalties(want.sampling);
}

function isEqual(a: Uint32Array, b: Uint32Array): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}

function isSame(a: SamplingParams, b: SamplingParams): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
