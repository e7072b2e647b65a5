/**
 * What a device answers itself, where logits are in its memory: draws and what rows say come back as some
 * numbers. The host reads the rows of the other asks, and of those the device could not decide.
 */
import type {
  Backend,
  Drawn,
  LogitsAsk,
  LogitsSummary,
  Ops,
  Tensor,
  Told,
} from "../backend/backend.ts";
import { logitsNeeded } from "./answers.ts";
import { drawOf, type Draws } from "./device_draws.ts";
import { asksOf } from "./device_summaries.ts";
import type { Row, Want } from "./executor.ts";

type SampleWant = Extract<Want, { readonly kind: "sample" }>;

/** The asks of a step. */
export interface DevicePlan {
  readonly draws: Draws;
  readonly asks: readonly LogitsAsk[];
  /** Of a want, its first ask and how many it has. */
  readonly spans: ReadonlyMap<Want, readonly [first: number, count: number]>;
  /** Rows of logits that the host needs, ascending. */
  readonly rows: Uint32Array;
}

/** What the device made of them, in a step. */
export interface DeviceOutput {
  readonly result: Tensor | undefined;
  readonly told: Told | undefined;
  /** The rows of the plan. */
  readonly picked: Tensor | undefined;
}

/** Answers, and rows of logits by their number. */
export interface DeviceAnswers {
  readonly drawn: ReadonlyMap<Want, Drawn>;
  readonly told: ReadonlyMap<Want, readonly LogitsSummary[]>;
  readonly logits: ReadonlyMap<number, Float32Array>;
}

/**
 * @param logitStarts per row, the number of its first row of logits
 * @returns undefined for backends that leave logits to the host
 */
export function planDevice(
  rows: readonly Row[],
  logitStarts: readonly number[],
  { canDraw, canTell }: Backend,
  vocab: number,
): DevicePlan | undefined {
  if (canDraw === undefined || canTell === undefined) return undefined;
  const draws = new Map<SampleWant, ReturnType<typeof drawOf>>();
  const asks: LogitsAsk[] = [], spans = new Map<Want, readonly [number, number]>();
  const host = new Set<number>();
  rows.forEach((row, r) => {
    const end = logitStarts[r]! + logitsNeeded(row);
    for (const want of row.wants) {
      const own = asksOf(want, end, true);
      const draw = want.kind === "sample" ? drawOf(want, row, end - 1) : undefined;
      const isTold = own.every((ask) => canTell(ask, vocab));
      if (want.kind === "logits" || !isTold || (draw && !canDraw(draw, vocab))) {
        for (const number of rowsOf(want, end)) host.add(number);
        continue;
      }
      if (want.kind === "sample") draws.set(want, draw!);
      if (own.length > 0) spans.set(want, [asks.length, own.length]);
      asks.push(...own);
    }
  });
  return { draws, asks, spans, rows: Uint32Array.from(host).sort() };
}

/** Numbers of the rows of logits that a want is about. */
function rowsOf(want: Want, end: number): number[] {
  const count = want.kind === "sample"
    ? 1
    : want.kind === "score"
    ? want.targets.length
    : want.kind === "hidden" || want.kind === "signal"
    ? 0
    : want.last;
  return Array.from({ length: count }, (_, i) => end - count + i);
}

/** Records what the plan needs of a step's logits. */
export function askDevice(
  ops: Ops,
  logits: Tensor | undefined,
  { draws, asks, rows }: DevicePlan,
  vocab: number,
): DeviceOutput {
  if (logits === undefined) return { result: undefined, told: undefined, picked: undefined };
  return {
    result: draws.size === 0 ? undefined : ops.draw!(logits, vocab, [...draws.values()]),
    told: asks.length === 0 ? undefined : ops.tell!(logits, vocab, asks),
    picked: rows.length === 0 ? undefined : pick(ops, logits, rows),
  };
}

/** All rows are the tensor itself. */
function pick(ops: Ops, logits: Tensor, rows: Uint32Array): Tensor {
  return rows.length === logits.shape[0] ? logits : ops.gatherRows(logits, rows);
}

/** Reads the answers, and the logits of what is left for the host. */
export async function readDevice(
  rows: readonly Row[],
  logitStarts: readonly number[],
  plan: DevicePlan,
  { result, told, picked }: DeviceOutput,
  logits: Tensor,
  backend: Backend,
): Promise<DeviceAnswers> {
  const [draws, summaries, values] = await Promise.all([
    result && backend.drawn!(result, [...plan.draws.values()]),
    told && backend.told!(told, plan.asks),
    picked && backend.read(picked),
  ]);
  free(told, picked === logits ? undefined : picked);
  const drawn = new Map<Want, Drawn>(), known = new Map<Want, readonly LogitsSummary[]>();
  [...plan.draws.keys()].forEach((want, i) => {
    if (draws?.[i] !== undefined) drawn.set(want, draws[i]);
  });
  for (const [want, [first, count]] of plan.spans) {
    const own = (summaries ?? []).slice(first, first + count).filter((one) => one !== undefined);
    if (own.length === count) known.set(want, own);
    else drawn.delete(want); // its most likely tokens are missing
  }
  const found = rowsFrom(values, plan.rows);
  const missing = undecided(rows, logitStarts, plan, drawn, known).filter((row) => !found.has(row));
  if (missing.length > 0) {
    const numbers = Uint32Array.from(new Set(missing)).sort();
    using more = backend.record((ops) => ops.gatherRows(logits, numbers));
    for (const [row, data] of rowsFrom(await backend.read(more), numbers)) found.set(row, data);
  }
  return { drawn, told: known, logits: found };
}

/** Rows of logits of asks that the device was given and left to the host. */
function undecided(
  rows: readonly Row[],
  logitStarts: readonly number[],
  { draws, spans }: DevicePlan,
  drawn: ReadonlyMap<Want, Drawn>,
  told: ReadonlyMap<Want, readonly LogitsSummary[]>,
): number[] {
  return rows.flatMap((row, r) =>
    row.wants.flatMap((want) => {
      const isOpen = (want.kind === "sample" && draws.has(want) && !drawn.has(want)) ||
        (spans.has(want) && !told.has(want));
      return isOpen ? rowsOf(want, logitStarts[r]! + logitsNeeded(row)) : [];
    })
  );
}

function rowsFrom(values: Float32Array | undefined, numbers: Uint32Array) {
  const width = (values?.length ?? 0) / numbers.length;
  return new Map(
    Array.from(
      values === undefined ? [] : numbers,
      (row, i) => [row, values!.subarray(i * width, (i + 1) * width)] as const,
    ),
  );
}

function free(told: Told | undefined, picked: Tensor | undefined): void {
  for (const tensor of [told?.stats, told?.top, told?.ids, told?.targets, picked]) {
    tensor?.[Symbol.dispose]();
  }
}
