/** Executor in this thread: one decoder, one backend, one page pool. */
import { type Backend, leastKvSupport, type Tensor } from "../backend/backend.ts";
import { DeviceLostError, EngineError } from "../errors.ts";
import type { KvAdapterData, KvLayout } from "../kv/policy.ts";
import { type Decoder, type KvAdapter, requireContext } from "../models/mod.ts";
import { logitsNeeded } from "./answers.ts";
import { planDevice } from "./device_asks.ts";
import { type Draws, planDraws } from "./device_draws.ts";
import type { Batch, BatchResult, Executor } from "./executor.ts";
import { roomForRecords } from "./memory_need.ts";
import { resultOf, RunAhead } from "./run_ahead.ts";
import { readAnswers, readSignals } from "./step_answers.ts";
import { recordStep, type StepContext } from "./step_record.ts";
import { rowsOfStep, type StepRows } from "./step_rows.ts";
import { stepSizeOf } from "./step_size.ts";

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

/** What every step of one executor uses. */
interface Runner extends StepContext {
  /** @default no steps are guessed */
  readonly ahead: RunAhead | undefined;
}

async function run(batch: Batch, runner: Runner): Promise<BatchResult> {
  const { decoder, backend, pool, vocab } = runner, { rows } = batch;
  const step = rowsOfStep(rows, decoder.config.layers);
  const last = rows.map((row, r) => step.logitStarts[r]! + logitsNeeded(row) - 1);
  const device = planDevice(rows, step.logitStarts, backend, vocab);
  const draws = device?.draws ?? planDraws(rows, last, backend, vocab);
  const output = recordStep(batch, step, { device, draws }, runner);
  const signals = await readSignals(rows, pool);
  using _logits = output.logits;
  using result = output.result;
  if (draws && result) {
    const guessed = await startAhead(batch, step, draws, result, runner);
    if (guessed === "again") return await run(batch, { ...runner, ahead: undefined });
    if (guessed !== undefined) return guessed;
  }
  return await readAnswers(rows, step, { device, draws }, output, signals, runner);
}

/**
 * Starts the steps after this one.
 *
 * @returns this one's results; undefined if nothing was started; "again" if the host has to draw, whose
 * logits the later steps have overwritten
 */
async function startAhead(
  batch: Batch,
  { tokens, positions, rows }: StepRows,
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
