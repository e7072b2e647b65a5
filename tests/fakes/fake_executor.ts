/**
 * An executor without a model: what a slot holds is a hash of its token, its position and everything
 * that was visible when it was written. Logits are a hash of that. A wrong page table, a write to a
 * shared page, a slot read after it was freed, a lost copy: each changes the logits.
 */
import { answerRow, logitsNeeded } from "../../runtime/engine/answers.ts";
import { fullKvSupport, type KvSupport } from "../../runtime/backend/backend.ts";
import type { Batch, BatchResult, Executor } from "../../runtime/engine/executor.ts";
import { EngineError, type TokenId } from "../../runtime/mod.ts";
import { mix, outputOf, SlotMemory, stateOf } from "./_slot_memory.ts";

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
  /** What policies may ask for. @default everything */
  readonly support?: KvSupport;
  /** Adapters the model pretends to have, by name. @default none */
  readonly adapters?: Readonly<Record<string, FakeAdapter>>;
  /** Called with each batch before it runs. */
  readonly onBatch?: (batch: Batch) => void;
  /** Answers after this promise, to hold a step in flight. */
  readonly gate?: () => Promise<void> | undefined;
}

/** Learned weights without numbers: what they record about a slot is a hash of what it holds. */
export interface FakeAdapter {
  /** Numbers per slot. */
  readonly width: number;
  readonly metadata?: Readonly<Record<string, string>>;
}

/** The executor and a look into its memory. */
export interface FakeExecutor extends Executor {
  /** Makes every slot of the page, or piece of one, unreadable. */
  poison(page: number, parts?: number): void;
  readonly isClosed: () => boolean;
}

function mapValues<A, B>(from: Readonly<Record<string, A>>, map: (value: A) => B) {
  return Object.fromEntries(Object.entries(from).map(([key, value]) => [key, map(value)]));
}

const LAYERS = 3, HEADS = 2, HIDDEN = 4;

/** See file comment. */
export function createFakeExecutor(options: FakeExecutorOptions): FakeExecutor {
  const { pages = 64, pageSize = 4, contextLength = 1024, deep = true } = options;
  const kv = { layers: LAYERS, kvHeads: HEADS, headDim: HIDDEN, pageSize };
  const slotsPerPage = { int8: 2 * pageSize, int4: 3 * pageSize, kivi4: 32 };
  const { adapters = {} } = options;
  const widths = mapValues(adapters, ({ width }) => width);
  const memory = new SlotMemory(kv, pages, deep, { f32: pageSize, ...slotsPerPage }, widths);
  let closed = false;
  return {
    info: {
      backend: "fake",
      vocab: options.vocab,
      contextLength,
      layers: LAYERS,
      hidden: HIDDEN,
      kv,
      pages,
      pageBytes: 2 * 4 * LAYERS * HEADS * HIDDEN * pageSize,
      support: options.support ?? fullKvSupport,
      slotsPerPage,
      heads: HEADS,
      adapters: Object.keys(adapters),
      adapterData: mapValues(adapters, ({ metadata = {} }) => ({ metadata, tensors: {} })),
    },
    async execute(batch) {
      options.onBatch?.(batch);
      if (batch.step === options.failAtStep) throw new EngineError("The fake executor was told to");
      const result = run(batch, memory, options);
      await options.gate?.();
      return result;
    },
    poison: (page, parts = 1) => memory.poison(page, parts),
    isClosed: () => closed,
    [Symbol.asyncDispose]() {
      closed = true;
      return Promise.resolve();
    },
  };
}

function run(batch: Batch, memory: SlotMemory, options: FakeExecutorOptions): BatchResult {
  for (const edit of batch.edits) memory.edit(edit);
  return {
    answers: batch.rows.map((row) => {
      const states = memory.compute(row);
      return answerRow(row, {
        vocab: options.vocab,
        logits: lastOf(states, logitsNeeded(row)).map((state) => logitsOf(state, options)),
        hidden: (layer, last) => lastOf(states, last).map((state) => hiddenOf(state, layer)),
        signal: (want) => memory.signal(want),
        drawn: () => undefined,
        summaries: () => undefined,
      });
    }),
  };
}

function lastOf(states: readonly number[], count: number): readonly number[] {
  return states.slice(states.length - count);
}

/**
 * Logits after `tokens`, computed in one go from nothing: what sessions must agree with.
 *
 * @param sees whether the token at place m sees that at j < m. @default all do
 */
export function fakeLogits(
  tokens: readonly TokenId[],
  options: FakeExecutorOptions,
  sees: (m: number, j: number) => boolean = () => true,
): Float32Array {
  const states: number[] = [];
  let output = 0;
  for (const [position, token] of tokens.entries()) {
    output = outputOf(token, position, [states.filter((_, j) => sees(position, j))]);
    states.push(stateOf(options.deep ?? true ? output : token, position, "f32"));
  }
  return logitsOf(output, options);
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
