/**
 * linear on the host side: up to three layers of one x in one dispatch, sums and gates fused in.
 *
 * A layer is computed when its result is needed. Until then, others of the same x may join it (q, k
 * and v), a sum may take it in (residuals), or two may become a gated one.
 */
import { linearShape } from "../cpu/shapes.ts";
import { dispatchLayers, type Layer, MOST_PARTS } from "./linear_dispatch.ts";
import type { GpuBuffer } from "./memory.ts";
import type { Stage } from "./stage.ts";
import type { GpuTensor, Shard, Slice } from "./tensor.ts";

/** Layers that are not computed yet, by their results. */
const layers = new WeakMap<GpuTensor, Layer>();

/**
 * @param x [rows, K]
 * @param weight [N, K]
 * @param bias [N]
 * @returns [rows, N]
 */
export function linear(stage: Stage, x: GpuTensor, weight: GpuTensor, bias?: GpuTensor): GpuTensor {
  const { rows: tokens, depth, outputs } = linearShape(x, weight, bias);
  const layer = { x, weight, bias, tokens, depth, outputs };
  const y = stage.later("linear", [tokens, outputs], (self) => compute(stage, self, layer));
  layers.set(y, layer);
  return y;
}

/** The layer a tensor stands for, if it is not computed yet. */
function layerOf(stage: Stage, tensor: GpuTensor): Layer | undefined {
  return stage.pending.has(tensor) ? layers.get(tensor) : undefined;
}

/** The only buffer a matrix lies in; undefined where it does not lie in one, or is no weight. */
function homeOf({ storage }: GpuTensor): { buffer: GpuBuffer; shard: Shard } | undefined {
  if (storage.kind !== "shards" || storage.shards.length !== 1) return undefined;
  const shard = storage.shards[0]!;
  return { buffer: shard.range.buffer, shard };
}

/** Whether one dispatch can compute both. */
function canJoin(a: Layer, b: Layer): boolean {
  if (a.x !== b.x || a.weight.dtype !== b.weight.dtype || a.depth % 4 !== 0) return false;
  const home = homeOf(a.weight)?.buffer;
  if (home === undefined || homeOf(b.weight)?.buffer !== home) return false;
  return biasHome(a, home) === home && biasHome(b, home) === home;
}

/** The buffer a bias would have to be bound from: any will do where there is none. */
function biasHome({ bias }: Layer, any: GpuBuffer): GpuBuffer | undefined {
  return bias === undefined ? any : homeOf(bias)?.buffer;
}

function compute(stage: Stage, y: GpuTensor, layer: Layer): Slice {
  const joined: [GpuTensor, Layer][] = [[y, layer]];
  if (stage.fuses) {
    for (const other of stage.pending) {
      const its = layers.get(other);
      if (its === undefined || joined.length === MOST_PARTS || !canJoin(layer, its)) continue;
      if (its.outputs > 0) joined.push([other, its]);
    }
  }
  const slices = stage.slices("linear", joined.map(([, l]) => [l.tokens, l.outputs]));
  dispatchLayers(stage, joined.map(([, l], i) => ({ layer: l, slice: slices[i]! })));
  joined.slice(1).forEach(([tensor], i) => {
    stage.pending.delete(tensor);
    tensor.settle(slices[i + 1]!);
  });
  return slices[0]!;
}

/**
 * x + y where one of them is a layer that is not computed yet. The layer itself stays to be computed,
 * should anybody else need it.
 */
export function addLinear(stage: Stage, x: GpuTensor, y: GpuTensor): GpuTensor | undefined {
  for (const [sum, other] of [[y, x], [x, y]] as const) {
    const layer = layerOf(stage, sum);
    if (layer === undefined || sum === other || layer.depth % 4 !== 0) continue;
    if (homeOf(layer.weight) === undefined) continue;
    stage.pending.delete(sum);
    const residual = other.target;
    const slice = stage.slice("linear", sum.shape);
    dispatchLayers(stage, [{ layer, slice }], { residual });
    return stage.tensor("add", sum.shape, slice);
  }
  return undefined;
}

/** silu(gate) * up of two layers of the same x. */
export function gatedLinear(stage: Stage, gate: GpuTensor, up: GpuTensor): GpuTensor | undefined {
  const first = layerOf(stage, gate), second = layerOf(stage, up);
  if (first === undefined || second === undefined || gate === up) return undefined;
  if (!canJoin(first, second) || (first.bias === undefined) !== (second.bias === undefined)) {
    return undefined;
  }
  stage.pending.delete(gate);
  stage.pending.delete(up);
  const slice = stage.slice("linear", gate.shape);
  dispatchLayers(stage, [{ layer: first, slice }], { up: second });
  return stage.tensor("swiglu", gate.shape, slice);
}
