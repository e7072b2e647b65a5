/**
 * An executor without a model: what a slot holds is a hash of its token, its position and everything
 * that was visible when it was written. Logits are a hash of that. A wrong page table, a write to a
 * shared page, a slot read after it was freed, a lost copy: each changes the logits.
 */
import { answerRow, logitsNeeded } from "../../runtime/engine/answers.ts";
import type { Batch, BatchResult, Executor, Row } from "../../runtime/engine/executor.ts";
import { EngineError, type TokenId } from "../../runtime/mod.ts";

/** How to make one. */
export interface FakeExecutorOptions {
  readonly vocab: number;
  /** @default 64 */
  readonly pages?: number;
  /** @default 4 */
  readonly pageSize?: number;
  /** @default 1024 */
  readonly contextLength?: number;
  /** Logits of these tokens are -Infinity. */
  readonly never?: readonly TokenId[];
  /** The whole batch of this step (counted from 1) fails. */
  readonly failAtStep?: number;
  /** Whether a slot's hash covers what was visible when it was written. @default true */
  readonly deep?: boolean;
  /** Called with each batch before it runs. */
  readonly onBatch?: (batch: Batch) => void;
  /** Answers after this promise, to hold a step in flight. */
  readonly gate?: () => Promise<void> | undefined;
}

/** The executor and a look into its memory. */
export interface FakeExecutor extends Executor {
  /** Makes every slot of the page unreadable. */
  poison(page: number): void;
  readonly isClosed: () => boolean;
}

const LAYERS = 3, HIDDEN = 4;

/** See file comment. */
export function createFakeExecutor(options: FakeExecutorOptions): FakeExecutor {
  const { pages = 64, pageSize = 4, contextLength = 1024, deep = true } = options;
  const memory = new SlotMemory(pages * pageSize, pageSize, deep);
  let closed = false;
  return {
    info: {
      backend: "fake",
      vocab: options.vocab,
      contextLength,
      layers: LAYERS,
      hidden: HIDDEN,
      kv: { layers: LAYERS, kvHeads: 1, headDim: HIDDEN, pageSize },
      pages,
      pageBytes: 2 * 4 * LAYERS * HIDDEN * pageSize,
    },
    async execute(batch) {
      options.onBatch?.(batch);
      if (batch.step === options.failAtStep) throw new EngineError("The fake executor was told to");
      const result = run(batch, memory, options);
      await options.gate?.();
      return result;
    },
    poison: (page) => memory.poison(page),
    isClosed: () => closed,
    [Symbol.asyncDispose]() {
      closed = true;
      return Promise.resolve();
    },
  };
}

function run(batch: Batch, memory: SlotMemory, options: FakeExecutorOptions): BatchResult {
  for (const { from, to } of batch.edits) {
    for (let i = 0; i < from.length; i++) memory.copy(from[i]!, to[i]!);
  }
  return {
    answers: batch.rows.map((row) => {
      const states = memory.compute(row);
      return answerRow(row, {
        logits: lastOf(states, logitsNeeded(row)).map((state) => logitsOf(state, options)),
        hidden: (layer, last) => lastOf(states, last).map((state) => hiddenOf(state, layer)),
        signal: ({ slots }) => new Float32Array(slots.length),
      });
    }),
  };
}

function lastOf(states: readonly number[], count: number): readonly number[] {
  return states.slice(states.length - count);
}

/** Logits after `tokens`, computed in one go from nothing: what sessions must agree with. */
export function fakeLogits(tokens: readonly TokenId[], options: FakeExecutorOptions): Float32Array {
  const seen: number[] = [];
  for (const [position, token] of tokens.entries()) {
    seen.push(stateOf(token, position, seen, options.deep ?? true));
  }
  // A shallow slot does not know what came before it, but its logits do.
  const last = tokens.length - 1;
  return logitsOf(outputOf(tokens[last]!, last, seen.slice(0, -1)), options);
}

class SlotMemory {
  readonly #states: Float64Array;
  readonly #pageSize: number;
  readonly #deep: boolean;

  constructor(slots: number, pageSize: number, deep: boolean) {
    this.#states = new Float64Array(slots).fill(NaN);
    this.#pageSize = pageSize;
    this.#deep = deep;
  }

  poison(page: number): void {
    this.#states.fill(NaN, page * this.#pageSize, (page + 1) * this.#pageSize);
  }

  copy(from: number, to: number): void {
    this.#states[to] = this.#read(from);
  }

  /** Writes the row's slots and returns the output of each of its tokens. */
  compute(row: Row): number[] {
    const count = row.tables.counts[0]!, table = row.tables.pages[0]!;
    const size = row.tokens.length, before = count - size;
    const physical = (slot: number) => {
      const page = table[Math.floor(slot / this.#pageSize)];
      if (page === undefined) throw new EngineError(`Slot ${slot} is not in the page table`);
      return page * this.#pageSize + slot % this.#pageSize;
    };
    const cached = Array.from({ length: before }, (_, slot) => this.#read(physical(slot)));
    const own: number[] = [], outputs: number[] = [];
    for (let t = 0; t < size; t++) {
      const slot = physical(before + t);
      if (row.slots[0]![t] !== slot) throw new EngineError(`Token ${t} of a row is out of place`);
      const seen = cached.concat(own.filter((_, j) => isVisible(row, t, j)));
      const state = stateOf(row.tokens[t]!, row.positions[t]!, seen, this.#deep);
      outputs.push(outputOf(row.tokens[t]!, row.positions[t]!, seen));
      own.push(state);
      this.#states[slot] = state;
    }
    return outputs;
  }

  #read(slot: number): number {
    const state = this.#states[slot];
    if (state === undefined || Number.isNaN(state)) {
      throw new EngineError(`Slot ${slot} was read and holds nothing`);
    }
    return state;
  }
}

function isVisible(row: Row, t: number, j: number): boolean {
  if (row.treeMask === undefined) return j < t;
  const words = Math.ceil(row.tokens.length / 32);
  return (row.treeMask[t * words + (j >>> 5)]! >>> (j & 31) & 1) === 1;
}

function stateOf(token: TokenId, position: number, seen: readonly number[], deep: boolean): number {
  return deep ? outputOf(token, position, seen) : mix(mix(token + 1) ^ position);
}

function outputOf(token: TokenId, position: number, seen: readonly number[]): number {
  let hash = mix(mix(token + 1) ^ position);
  for (const state of seen) hash = mix(Math.imul(hash, 31) ^ state);
  return hash;
}

function logitsOf(state: number, { vocab, never = [] }: FakeExecutorOptions): Float32Array {
  const row = Float32Array.from(
    { length: vocab },
    (_, token) => mix(state ^ Math.imul(token + 1, 0x9e3779b1)) / 2147483648 * 3 - 3,
  );
  for (const token of never) row[token] = -Infinity;
  return row;
}

function hiddenOf(state: number, layer: number): Float32Array {
  return Float32Array.from({ length: HIDDEN }, (_, i) => mix(state + 7 * layer + i) / 4294967296);
}

/** Murmur3's finaliser: every output bit depends on every input bit. */
function mix(x: number): number {
  let h = x | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
