/** Executor in this thread: one decoder, one backend, one page pool. */
import {
  type AttentionRow,
  type Backend,
  type KvPool,
  leastKvSupport,
  type Ops,
  type Rope,
  type Tensor,
} from "../backend/backend.ts";
import { DeviceLostError, EngineError } from "../errors.ts";
import type { KvAdapterData, KvLayout } from "../kv/policy.ts";
import { type Decoder, type DecoderStep, type KvAdapter, requireContext } from "../models/mod.ts";
import { answerRow, logitsNeeded } from "./answers.ts";
import { askDevice, planDevice, readDevice } from "./device_asks.ts";
import { type Draws, planDraws, readDraws } from "./device_draws.ts";
import { readSummaries } from "./device_summaries.ts";
import { roomForRecords } from "./memory_need.ts";
import { resultOf, RunAhead } from "./run_ahead.ts";
import { stepSizeOf } from "./step_size.ts";
import type { Batch, BatchResult, Executor, PageEdit, Row, Want } from "./executor.ts";

/** Size of the page pool and longest sequence. */
export interface LocalExecutorOptions {
  /** Pages in the pool. */
  readonly pages: number;
  /** Slots per page. */
  readonly pageSize: number;
  /** Longest sequence in tokens. */
  readonly contextLength: number;
  /**
   * Ids the tokenizer has. Models are often padded beyond; such logits are dropped, so that no
   * token without a meaning can be drawn. @default all of the model's
   */
  readonly vocab?: number;
  /** Become the executor's. @default none */
  readonly adapters?: readonly KvAdapter[];
  /** What KV policies may know of learned weights, by name. @default nothing of those above */
  readonly adapterData?: Readonly<Record<string, KvAdapterData>>;
}

/**
 * Runs batches on `backend`, which stays the caller's; disposing frees the decoder's weights and the
 * pool. On the CPU backend a batch is one synchronous computation.
 *
 * @throws {RangeError} if the context is longer than what the model computes exactly
 */
export function createLocalExecutor(
  decoder: Decoder,
  backend: Backend,
  options: LocalExecutorOptions,
): Executor {
  const { config } = decoder;
  requireContext(config, options.contextLength);
  const vocab = options.vocab ?? config.vocab;
  if (!(vocab >= 1 && vocab <= config.vocab)) {
    throw new RangeError(`Cannot use ${vocab} token ids: the model has ${config.vocab}`);
  }
  const kv: KvLayout = {
    layers: config.layers,
    kvHeads: config.kvHeads,
    headDim: config.headDim,
    pageSize: options.pageSize,
  };
  const pool = backend.kvPool(kv, options.pages);
  const ahead = new RunAhead(backend, options.pageSize);
  const adapters = new Map(options.adapters?.map((adapter) => [adapter.name, adapter]));
  const records = roomForRecords(config, backend, pool, adapters.values());
  return {
    info: {
      backend: backend.name,
      ...backend.details && { details: backend.details },
      vocab,
      contextLength: options.contextLength,
      layers: config.layers,
      hidden: config.hidden,
      kv,
      pages: options.pages,
      pageBytes: pool.pageBytes,
      support: backend.kv ?? leastKvSupport,
      slotsPerPage: Object.fromEntries(
        (backend.kv?.formats ?? []).map((format) => [format, pool.slotsPerPage(format)]),
      ),
      ...records && { records },
      heads: config.heads,
      steps: stepSizeOf(backend, config.vocab),
      rope: decoder.rope,
      adapters: [...new Set([...adapters.keys(), ...Object.keys(options.adapterData ?? {})])],
      ...options.adapterData && { adapterData: options.adapterData },
    },
    async execute(batch) {
      try {
        const guessed = await ahead.take(batch);
        if (guessed !== undefined) return guessed;
        return await run(batch, { ahead, decoder, backend, pool, vocab, adapters });
      } catch (error) {
        if (error instanceof DeviceLostError) throw error;
        const detail = error instanceof Error ? error.message : String(error);
        throw new EngineError(`Step ${batch.step} failed: ${detail}`, { cause: error });
      }
    },
    [Symbol.asyncDispose]() {
      pool[Symbol.dispose]();
      for (const adapter of adapters.values()) adapter[Symbol.dispose]();
      decoder[Symbol.dispose]();
      return Promise.resolve();
    },
  };
}

/** Where a row's results are in the step's tensors. */
interface Plan {
  readonly tokens: Uint32Array;
  readonly positions: Uint32Array;
  readonly rows: readonly AttentionRow[];
  readonly logitTokens: Uint32Array;
  /** Per row, its first entry of `logitTokens`. */
  readonly logitStarts: readonly number[];
  readonly hiddenTokens: ReadonlyMap<number, Uint32Array>;
  /** Per row, layer -> first of its rows in that layer's tensor. */
  readonly hiddenStarts: readonly ReadonlyMap<number, number>[];
}

/** What every step of one executor uses. */
interface Runner {
  readonly ahead: RunAhead | undefined;
  readonly adapters: ReadonlyMap<string, KvAdapter>;
  readonly decoder: Decoder;
  readonly backend: Backend;
  readonly pool: KvPool;
  readonly vocab: number;
}

const noLogits = new Float32Array(0);

async function run(batch: Batch, runner: Runner): Promise<BatchResult> {
  const { decoder, backend, pool } = runner;
  const plan = planStep(batch.rows, decoder.config.layers);
  const last = batch.rows.map((row, r) => plan.logitStarts[r]! + logitsNeeded(row) - 1);
  const device = planDevice(batch.rows, plan.logitStarts, backend, runner.vocab);
  const draws = device?.draws ?? planDraws(batch.rows, last, backend, runner.vocab);
  const output = backend.record((ops) => {
    for (const edit of batch.edits) applyEdit(ops, pool, edit, decoder.rope);
    if (plan.tokens.length === 0) {
      return { logits: undefined, hidden: new Map<number, Tensor>() };
    }
    const { logits, hidden } = decoder.forward(ops, {
      tokens: plan.tokens,
      positions: plan.positions,
      pool,
      rows: plan.rows,
      slots: batch.rows.map((row) => row.slots),
      signals: batch.signals ?? [],
      adapters: adaptersOf(batch.rows, runner.adapters),
      logitTokens: plan.logitTokens,
      hiddenTokens: plan.hiddenTokens,
    });
    const asked = device && askDevice(ops, logits, device, runner.vocab);
    const result = asked
      ? asked.result
      : draws && logits && ops.draw?.(logits, runner.vocab, [...draws.values()]);
    return { logits, hidden, result, asked };
  });
  const signals = await readSignals(batch.rows, pool);
  const { vocab: padded, hidden: width } = decoder.config;
  using owned = output.logits;
  using result = output.result;
  if (draws && result) {
    const guessed = await startAhead(batch, plan, draws, result, runner);
    if (guessed === "again") return await run(batch, { ...runner, ahead: undefined });
    if (guessed !== undefined) return guessed;
  }
  const { asked } = output;
  const [answers, hidden] = await Promise.all([
    device && asked && owned
      ? readDevice(batch.rows, plan.logitStarts, device, asked, owned, backend)
      : undefined,
    readAll(backend, output.hidden),
  ]);
  const drawn = answers?.drawn ?? (draws && result && await readDraws(backend, draws, result));
  const copied = owned === undefined || drawn !== undefined || backend.view !== undefined
    ? undefined
    : await backend.read(owned);
  // From here to the end nothing else runs, so that a view stays valid.
  const told = answers?.told ??
    (owned && readSummaries(batch.rows, plan.logitStarts, backend, owned, runner.vocab));
  const logits = owned === undefined || answers ? undefined : backend.view?.(owned) ?? copied;
  const logitRows = (first: number, count: number) =>
    answers
      ? Array.from({ length: count }, (_, i) => answers.logits.get(first + i) ?? noLogits)
      : rowsFrom(logits, first, count, padded);
  return {
    answers: batch.rows.map((row, r) =>
      answerRow(row, {
        logits: logitRows(plan.logitStarts[r]!, logitsNeeded(row))
          .map((logitRow) => logitRow.subarray(0, runner.vocab)),
        vocab: runner.vocab,
        drawn: (want) => drawn?.get(want),
        summaries: (want) => told?.get(want),
        hidden(layer, last) {
          const start = plan.hiddenStarts[r]!.get(layer)! + hiddenNeeded(row, layer) - last;
          return rowsFrom(hidden.get(layer), start, last, width).map((state) => state.slice());
        },
        signal: (want) => signals.get(want)!,
      })
    ),
  };
}

/**
 * Starts the steps after this one.
 *
 * @returns this one's results; undefined if nothing was started; "again" if the host has to draw, whose
 * logits the later steps have overwritten
 */
async function startAhead(
  batch: Batch,
  { tokens, positions, rows }: Plan,
  draws: Draws,
  result: Tensor,
  { ahead }: Runner,
): Promise<BatchResult | "again" | undefined> {
  const step = { tokens, positions, rows, draws: [...draws.values()], result };
  const own = ahead?.start(batch, step);
  if (own === undefined) return undefined;
  const results = resultOf(await own);
  if (results === undefined) ahead!.cancel();
  else ahead!.settle(results);
  return results ?? "again";
}

function applyEdit(ops: Ops, pool: KvPool, edit: PageEdit, rope: Rope): void {
  if (edit.op === "copy") {
    const { from, to, place, shifts } = edit;
    const turn = shifts === undefined ? {} : { turn: { shifts, rope } };
    ops.kvCopy(pool, from, to, { ...place, ...turn });
    return;
  }
  if (ops.kvEncode === undefined) throw new EngineError("The backend has no other KV formats");
  ops.kvEncode(pool, edit.from, edit.to, { ...edit.place, signals: edit.signals });
}

/** Which adapters the rows use, and which rows use each. */
function adaptersOf(
  rows: readonly Row[],
  known: ReadonlyMap<string, KvAdapter>,
): DecoderStep["adapters"] {
  const used: { adapter: KvAdapter; rows: number[] }[] = [];
  rows.forEach(({ adapter: name }, r) => {
    if (name === undefined) return;
    const adapter = known.get(name);
    if (adapter === undefined) throw new EngineError(`There is no KV adapter ${name}`);
    const entry = used.find((other) => other.adapter === adapter);
    if (entry === undefined) used.push({ adapter, rows: [r] });
    else entry.rows.push(r);
  });
  return used;
}

type SignalWant = Extract<Want, { kind: "signal" }>;

async function readSignals(
  rows: readonly Row[],
  pool: KvPool,
): Promise<ReadonlyMap<SignalWant, Float32Array>> {
  const read = new Map<SignalWant, Float32Array>();
  for (const { wants } of rows) {
    for (const want of wants) {
      if (want.kind !== "signal") continue;
      const { name, layer, kvHead, slots, place } = want;
      read.set(want, await pool.readSignal(name, layer, kvHead, slots, place));
    }
  }
  return read;
}

function planStep(rows: readonly Row[], layers: number): Plan {
  const count = rows.reduce((sum, row) => sum + row.tokens.length, 0);
  const tokens = new Uint32Array(count), positions = new Uint32Array(count);
  const attentionRows: AttentionRow[] = [];
  const logitTokens: number[] = [], logitStarts: number[] = [];
  const hiddenTokens = new Map<number, number[]>(), hiddenStarts: Map<number, number>[] = [];
  let start = 0;
  for (const row of rows) {
    checkRow(row, layers);
    tokens.set(row.tokens, start);
    positions.set(row.positions, start);
    const length = row.tokens.length, end = start + length;
    attentionRows.push({
      start,
      length,
      ...row.tables,
      ...(row.signals === undefined ? {} : { signals: row.signals }),
      ...(row.rule === undefined ? {} : { rule: row.rule, ruleFrom: row.ruleFrom ?? 0 }),
      ...(row.treeMask === undefined ? {} : { treeMask: row.treeMask }),
    });
    logitStarts.push(logitTokens.length);
    for (let t = end - logitsNeeded(row); t < end; t++) logitTokens.push(t);
    const starts = new Map<number, number>();
    for (const layer of hiddenLayers(row)) {
      let wanted = hiddenTokens.get(layer);
      if (wanted === undefined) hiddenTokens.set(layer, wanted = []);
      starts.set(layer, wanted.length);
      for (let t = end - hiddenNeeded(row, layer); t < end; t++) wanted.push(t);
    }
    hiddenStarts.push(starts);
    start = end;
  }
  return {
    tokens,
    positions,
    rows: attentionRows,
    logitTokens: Uint32Array.from(logitTokens),
    logitStarts,
    hiddenTokens: new Map([...hiddenTokens].map(([layer, at]) => [layer, Uint32Array.from(at)])),
    hiddenStarts,
  };
}

/** @throws {RangeError} if the row cannot answer its wants */
function checkRow(row: Row, layers: number): void {
  const length = row.tokens.length;
  if (length === 0) throw new RangeError("A row needs at least one token");
  if (row.positions.length !== length) {
    throw new RangeError(`A row of ${length} tokens has ${row.positions.length} positions`);
  }
  const needed = Math.max(
    logitsNeeded(row),
    ...hiddenLayers(row).map((layer) => hiddenNeeded(row, layer)),
  );
  if (needed > length) throw new RangeError(`A row of ${length} tokens is asked for ${needed}`);
  for (const layer of hiddenLayers(row)) {
    if (layer > layers) throw new RangeError(`Layer ${layer} is above the last, ${layers}`);
  }
}

function hiddenLayers(row: Row): number[] {
  const layers = row.wants.flatMap((want) => want.kind === "hidden" ? [want.layer] : []);
  return [...new Set(layers)];
}

/** How many of a row's last tokens have to give the hidden state of `layer`. */
function hiddenNeeded(row: Row, layer: number): number {
  return row.wants.reduce(
    (most, want) =>
      want.kind === "hidden" && want.layer === layer ? Math.max(most, want.last) : most,
    0,
  );
}

async function readAndFree(backend: Backend, tensor: Tensor): Promise<Float32Array> {
  using owned = tensor;
  return await backend.read(owned);
}

async function readAll(
  backend: Backend,
  tensors: ReadonlyMap<number, Tensor>,
): Promise<ReadonlyMap<number, Float32Array>> {
  const read = async ([layer, tensor]: [number, Tensor]) =>
    [layer, await readAndFree(backend, tensor)] as const;
  return new Map(await Promise.all([...tensors].map(read)));
}

/** Views of `count` rows from row `start`. */
function rowsFrom(
  data: Float32Array | undefined,
  start: number,
  count: number,
  width: number,
): Float32Array[] {
  if (data === undefined) return [];
  return Array.from(
    { length: count },
    (_, i) => data.subarray((start + i) * width, (start + i + 1) * width),
  );
}
