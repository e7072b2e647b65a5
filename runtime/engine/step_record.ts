/** Records a step: edits of pages, the forward pass, and what the device itself answers. */
import type { Backend, KvPool, Ops, Rope, Tensor } from "../backend/backend.ts";
import { EngineError } from "../errors.ts";
import type { Decoder, DecoderStep, KvAdapter } from "../models/mod.ts";
import { askDevice, type DeviceOutput, type DevicePlan } from "./device_asks.ts";
import type { Draws } from "./device_draws.ts";
import type { Batch, PageEdit, Row } from "./executor.ts";
import type { StepRows } from "./step_rows.ts";

/** What every step of one executor uses. */
export interface StepContext {
  readonly adapters: ReadonlyMap<string, KvAdapter>;
  readonly decoder: Decoder;
  readonly backend: Backend;
  readonly pool: KvPool;
  readonly vocab: number;
}

/** What the device is asked for, beside the forward pass. */
export interface StepAsks {
  /** Undefined where the host reads the logits. */
  readonly device: DevicePlan | undefined;
  readonly draws: Draws | undefined;
}

/** What a step made. The caller frees all tensors. */
export interface StepOutput {
  readonly logits: Tensor | undefined;
  /** Layer -> hidden states. */
  readonly hidden: ReadonlyMap<number, Tensor>;
  /** Draws on the device. */
  readonly result?: Tensor | undefined;
  readonly asked?: DeviceOutput | undefined;
}

/** @throws {EngineError} if the backend or the model lacks what an edit or a row needs */
export function recordStep(
  batch: Batch,
  step: StepRows,
  { device, draws }: StepAsks,
  { decoder, backend, pool, vocab, adapters }: StepContext,
): StepOutput {
  return backend.record((ops) => {
    for (const edit of batch.edits) applyEdit(ops, pool, edit, decoder.rope);
    if (step.tokens.length === 0) return { logits: undefined, hidden: new Map() };
    const { logits, hidden } = decoder.forward(ops, {
      tokens: step.tokens,
      positions: step.positions,
      pool,
      rows: step.rows,
      slots: batch.rows.map((row) => row.slots),
      signals: batch.signals ?? [],
      adapters: adaptersOf(batch.rows, adapters),
      logitTokens: step.logitTokens,
      hiddenTokens: step.hiddenTokens,
    });
    const asked = device && askDevice(ops, logits, device, vocab);
    const result = asked
      ? asked.result
      : draws && logits && ops.draw?.(logits, vocab, [...draws.values()]);
    return { logits, hidden, result, asked };
  });
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
