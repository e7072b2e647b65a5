/** rope on the host side: cosines and sines, in double precision, shared by the layers of a step. */
import { ShapeError } from "../../errors.ts";
import type { Rope } from "../backend.ts";
import { matrix } from "../cpu/tensor.ts";
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
  const [tokens, width] = matrix("rope", x);
  const { headDim, frequencies } = spec;
  const half = headDim / 2;
  if (width % headDim !== 0 || positions.length !== tokens || frequencies.length !== half) {
    throw new ShapeError(
      "rope",
      `x is [${x.shape.join(", ")}], headDim ${headDim}, ` +
        `${positions.length} positions, ${frequencies.length} frequencies`,
    );
  }
  const tables = once(step, "rope", spec, () => new Map<Uint32Array, number>());
  let turns = tables.get(positions);
  if (turns === undefined) tables.set(positions, turns = rotations(step, positions, frequencies));
  const y = step.scope.alloc("rope", x.shape);
  const [gap, stride] = spec.layout === "half" ? [4 * half, 4] : [4, 8];
  const heads = width / headDim;
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

/** Per model (its frequencies): position -> cosines, then sines. Grows with the positions used. */
const known = new WeakMap<Float64Array, Map<number, Float32Array>>();

function rotation(frequencies: Float64Array, position: number): Float32Array {
  let byPosition = known.get(frequencies);
  if (byPosition === undefined) known.set(frequencies, byPosition = new Map());
  let turn = byPosition.get(position);
  if (turn === undefined) {
    const half = frequencies.length;
    turn = new Float32Array(2 * half);
    for (let i = 0; i < half; i++) {
      turn[i] = Math.cos(position * frequencies[i]!);
      turn[half + i] = Math.sin(position * frequencies[i]!);
    }
    byPosition.set(position, turn);
  }
  return turn;
}
