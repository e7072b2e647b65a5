/** rope on the host side: cosines and sines, in double precision, shared by the layers of a step. */
import type { Rope } from "../backend.ts";
import { rotation } from "../cpu/rope.ts";
import { ropeShape } from "../cpu/shapes.ts";
import { cut } from "./cut.ts";
import { once, type Step } from "./step.ts";
import type { WasmTensor } from "./tensor.ts";

/**
 * @param x [tokens, heads * headDim]
 * @param positions one per token
 */
export function rope(
  step: Step,
  x: WasmTensor,
  positions: Uint32Array,
  spec: Rope,
): WasmTensor {
  const { tokens, width, half } = ropeShape(x, positions, spec);
  const tables = once(step, "rope", spec, () => new Map<Uint32Array, number>());
  let turns = tables.get(positions);
  if (turns === undefined) {
    tables.set(positions, turns = rotations(step, positions, spec.frequencies));
  }
  const y = step.scope.alloc("rope", x.shape);
  const [gap, stride] = spec.layout === "half" ? [4 * half, 4] : [4, 8];
  const heads = width / spec.headDim;
  const parts = cut(step, tokens, 1, 4 * width).map(({ from, count }) => [
    x.address + 4 * width * from,
    y.address + 4 * width * from,
    turns + 8 * half * from,
    count,
    heads,
    half,
    gap,
    stride,
  ]);
  step.team.run("rope", parts);
  return y;
}

/** Writes [tokens, 2, half]. */
function rotations(
  { heap, scope }: Step,
  positions: Uint32Array,
  frequencies: Float64Array,
): number {
  const width = 2 * frequencies.length;
  const address = scope.block("rope", 4 * positions.length * width);
  for (let t = 0; t < positions.length; t++) {
    heap.floats.set(rotation(frequencies, positions[t]!), address / 4 + t * width);
  }
  return address;
}
