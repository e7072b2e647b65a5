/** Whether a model fits, computed from its header before anything large is read. */
import type { Backend } from "../backend/backend.ts";
import type { WeightSource } from "../formats/weights.ts";
import type { KvLayout } from "../kv/policy.ts";
import { type ModelConfig, type WeightFormat, weightTypes } from "../models/mod.ts";
import { isIgnorable } from "../models/weight_names.ts";
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
  const { layers, kvHeads, headDim, heads, hidden, ffn, vocab } = config;
  const layout: KvLayout = { layers, kvHeads, headDim, pageSize };
  // Of a layer: three states and two norms; q, k and v before and after rotation; the mixed values;
  // gate, up and their product.
  const perToken = 5 * hidden + (3 * heads + 4 * kvHeads) * headDim + 3 * ffn + vocab;
  return { weights: bytes, kv: kvBytes(layout, pages), step: 4 * stepTokens * perToken };
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
