/** Whether a model fits, computed from its header before anything large is read. */
import { type Backend, type KvPool, leastKvSupport } from "../backend/backend.ts";
import type { WeightSource } from "../formats/weights.ts";
import type { KvFormat, KvLayout, KvSignal } from "../kv/policy.ts";
import { type KvAdapter, type ModelConfig, type WeightFormat, weightTypes } from "../models/mod.ts";
import { isIgnorable } from "../models/weight_names.ts";
import { recordKey, type RecordRoom } from "./records.ts";
import { stepSizeOf } from "./step_size.ts";

/** Bytes by what they are for. */
export interface MemoryNeed {
  readonly weights: number;
  readonly kv: number;
  /** Intermediate results and logits of one step. */
  readonly step: number;
}

/** How a model is to be held. */
export interface MemoryPlan {
  readonly format: WeightFormat;
  readonly pages: number;
  readonly pageSize: number;
  /** Tokens of the largest step. @default the engine's */
  readonly stepTokens?: number;
}

/** What a model takes on `backend`; undefined if that is not known before. */
export function memoryNeed(
  config: ModelConfig,
  weights: WeightSource,
  backend: Backend,
  { format, pages, pageSize, stepTokens = stepSizeOf(backend, config.vocab).stepTokens }:
    MemoryPlan,
): MemoryNeed | undefined {
  if (backend.capacity === undefined) return undefined;
  const { tensorBytes, kvBytes } = backend.capacity;
  const typeOf = weightTypes(weights, backend, format);
  let bytes = 0;
  for (const name of weights.names()) {
    if (!isIgnorable(name)) bytes += tensorBytes(weights.shape(name), typeOf(name).type);
  }
  const { layers, kvHeads, headDim } = config;
  const layout: KvLayout = { layers, kvHeads, headDim, pageSize };
  return { weights: bytes, kv: kvBytes(layout, pages), step: stepBytes(config, stepTokens) };
}

/** What one step of so many tokens takes at most. */
export function stepBytes(
  { kvHeads, headDim, heads, hidden, ffn, vocab }: ModelConfig,
  stepTokens: number,
): number {
  // Of a layer: three states and two norms; q, k and v before and after rotation; the mixed values;
  // gate, up and their product.
  const perToken = 5 * hidden + (3 * heads + 4 * kvHeads) * headDim + 3 * ffn + vocab;
  return 4 * stepTokens * perToken;
}

/**
 * What is left for what policies record once weights, pages and the largest step have theirs; undefined
 * where records are not taken from what the backend holds, or that is not counted.
 */
export function roomForRecords(
  config: ModelConfig,
  backend: Backend,
  pool: KvPool,
  adapters: Iterable<KvAdapter>,
): RecordRoom | undefined {
  const { capacity, kv = leastKvSupport } = backend, { recordBytes } = pool;
  if (capacity?.used === undefined || recordBytes === undefined) return undefined;
  const step = stepBytes(config, stepSizeOf(backend, config.vocab).stepTokens);
  const widths = new Map<KvSignal, number>(kv.signals.map((signal) => [signal, 1]));
  widths.set("query", config.heads / config.kvHeads * config.headDim);
  for (const { name, recordWidth = 0 } of adapters) widths.set(`adapter:${name}`, recordWidth);
  const formats: readonly KvFormat[] = ["f32", ...kv.formats];
  const signals = [...widths].flatMap(([signal, width]) =>
    formats.map((format) => [recordKey(signal, format), recordBytes.slots(width, format)] as const)
  );
  return {
    bytes: Math.max(0, capacity.bytes - capacity.used - step),
    bounds: recordBytes.bounds(),
    signals: Object.fromEntries(signals),
  };
}

/** @throws {RangeError} saying what is needed, what there is and what would help */
export function requireMemory(
  config: ModelConfig,
  weights: WeightSource,
  backend: Backend,
  plan: MemoryPlan,
): void {
  const need = memoryNeed(config, weights, backend, plan);
  if (need === undefined || backend.capacity === undefined) return;
  const { bytes } = backend.capacity;
  const all = need.weights + need.kv + need.step;
  if (all <= bytes) return;
  throw new RangeError(
    `The model needs ${gib(all)} (weights ${gib(need.weights)}, KV ${gib(need.kv)}, one step ` +
      `${gib(need.step)}), and the ${backend.name} backend holds ${
        gib(bytes)
      }. Use a smaller model, ` +
      "weights in fewer bits (--weights q4), or less kv_bytes and context",
  );
}

function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}
