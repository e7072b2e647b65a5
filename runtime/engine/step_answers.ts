/** Reads what a step made, and answers its rows with it. */
import type { Backend, KvPool, Tensor } from "../backend/backend.ts";
import { answerRow, logitsNeeded } from "./answers.ts";
import { readDevice } from "./device_asks.ts";
import { readDraws } from "./device_draws.ts";
import { readSummaries } from "./device_summaries.ts";
import type { BatchResult, Row, Want } from "./executor.ts";
import type { StepAsks, StepContext, StepOutput } from "./step_record.ts";
import { hiddenNeeded, type StepRows } from "./step_rows.ts";

const noLogits = new Float32Array(0);

/**
 * Answers all rows. The hidden states of `output` are freed, its other tensors are not.
 *
 * @param signals see {@link readSignals}
 */
export async function readAnswers(
  rows: readonly Row[],
  step: StepRows,
  { device, draws }: StepAsks,
  output: StepOutput,
  signals: Signals,
  { decoder, backend, vocab }: StepContext,
): Promise<BatchResult> {
  const { logits: owned, result, asked } = output;
  const { vocab: padded, hidden: width } = decoder.config;
  const [answers, hidden] = await Promise.all([
    device && asked && owned
      ? readDevice(rows, step.logitStarts, device, asked, owned, backend)
      : undefined,
    readAll(backend, output.hidden),
  ]);
  const drawn = answers?.drawn ?? (draws && result && await readDraws(backend, draws, result));
  const copied = owned === undefined || drawn !== undefined || backend.view !== undefined
    ? undefined
    : await backend.read(owned);
  // From here to the end nothing else runs, so that a view stays valid.
  const told = answers?.told ??
    (owned && readSummaries(rows, step.logitStarts, backend, owned, vocab));
  const logits = owned === undefined || answers ? undefined : backend.view?.(owned) ?? copied;
  const logitRows = (first: number, count: number) =>
    answers
      ? Array.from({ length: count }, (_, i) => answers.logits.get(first + i) ?? noLogits)
      : rowsFrom(logits, first, count, padded);
  return {
    answers: rows.map((row, r) =>
      answerRow(row, {
        logits: logitRows(step.logitStarts[r]!, logitsNeeded(row))
          .map((logitRow) => logitRow.subarray(0, vocab)),
        vocab,
        drawn: (want) => drawn?.get(want),
        summaries: (want) => told?.get(want),
        hidden(layer, last) {
          const start = step.hiddenStarts[r]!.get(layer)! + hiddenNeeded(row, layer) - last;
          return rowsFrom(hidden.get(layer), start, last, width).map((state) => state.slice());
        },
        signal: (want) => signals.get(want)!,
      })
    ),
  };
}

type SignalWant = Extract<Want, { kind: "signal" }>;

/** Values by the want that asked for them. */
export type Signals = ReadonlyMap<SignalWant, Float32Array>;

/** What rows ask about the cache, to be read before anything else is recorded. */
export async function readSignals(
  rows: readonly Row[],
  pool: KvPool,
): Promise<Signals> {
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
