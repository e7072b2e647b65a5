/** Ops on whole rows: embed, gather_rows, rms_norm, add, swiglu, rope. */
import * as kernels from "../../../shaders/mod.ts";
import { ShapeError } from "../../errors.ts";
import type { Rope } from "../backend.ts";
import { ropeShape } from "../cpu/shapes.ts";
import { elements, matrix, sameShape } from "../cpu/tensor.ts";
import { addLinear, gatedLinear } from "./linear.ts";
import { stepData, target } from "./recorder.ts";
import { spread, type Stage } from "./stage.ts";
import type { GpuTensor } from "./tensor.ts";

/** Columns a kernel can go through in 32,768 steps of 64 lanes. */
const WIDEST = 64 * 32_768;

/** @throws {RangeError} if a token is not in the table */
export function embed(stage: Stage, table: GpuTensor, tokens: Uint32Array): GpuTensor {
  const [vocab, cols] = matrix("embed", table);
  for (const token of tokens) {
    if (token >= vocab) throw new RangeError(`Token ${token} is not below the vocabulary ${vocab}`);
  }
  const { storage } = table;
  if (storage.kind !== "shards") return pick(stage, "embed", table, cols, tokens);
  const y = stage.slice("embed", [tokens.length, cols]);
  const to = target(y.result, y.offset, y.bytes);
  const at = stage.data.put(tokens);
  const { spec, unit } = embedKernels[table.dtype as keyof typeof embedKernels];
  for (const { first, rows, range, scales } of storage.shards) {
    stage.dispatch(
      spec,
      [cols, at, first, rows, 0, scales / unit],
      [target(range.buffer, range.offset, range.size), stepData, to],
      [Math.ceil(cols / 64), tokens.length, 1],
    );
  }
  return stage.tensor("embed", [tokens.length, cols], y);
}

const embedKernels = {
  f32: { spec: kernels.embedF32, unit: 4 },
  f16: { spec: kernels.embedF16, unit: 4 },
  q8: { spec: kernels.embedQ8, unit: 4 },
  q4: { spec: kernels.embedQ4, unit: 4 },
};

/** @throws {RangeError} if a row is not in x */
export function gatherRows(stage: Stage, x: GpuTensor, rows: Uint32Array): GpuTensor {
  const [height, cols] = matrix("gather_rows", x);
  for (const row of rows) {
    if (row >= height) throw new RangeError(`Row ${row} is not below ${height}`);
  }
  return pick(stage, "gather_rows", x, cols, rows);
}

function pick(stage: Stage, label: string, x: GpuTensor, cols: number, rows: Uint32Array) {
  const y = stage.slice(label, [rows.length, cols]);
  stage.dispatch(
    kernels.gatherRows,
    [cols, stage.data.put(rows)],
    [x.target, stepData, target(y.result, y.offset, y.bytes)],
    [Math.ceil(cols / 64), rows.length, 1],
  );
  return stage.tensor(label, [rows.length, cols], y);
}

/** x [rows, n * cols], weight [cols]; each run of `cols` columns is normalised by itself. */
export function rmsNorm(stage: Stage, x: GpuTensor, weight: GpuTensor, eps: number): GpuTensor {
  const [rows, width] = matrix("rms_norm", x);
  const cols = weight.shape[0] ?? 0;
  if (weight.shape.length !== 1 || cols === 0 || width % cols !== 0 || cols > WIDEST) {
    throw new ShapeError(
      "rms_norm",
      `rows of ${width} columns do not divide into a weight of [${weight.shape.join(", ")}]`,
    );
  }
  return stage.later("rms_norm", x.shape, () => {
    const from = x.target;
    const y = stage.slice("rms_norm", x.shape);
    stage.dispatch(
      kernels.rmsNorm,
      [cols, eps],
      [from, weight.target, target(y.result, y.offset, y.bytes)],
      [rows * (width / cols), 1, 1],
    );
    return y;
  });
}

/** x + y; a sum with a linear layer that is not computed yet becomes part of it. */
export function add(stage: Stage, x: GpuTensor, y: GpuTensor): GpuTensor {
  sameShape("add", x, y);
  return addLinear(stage, x, y) ?? elementwise(stage, kernels.add, x, y);
}

/** silu(gate) * up; of two linear layers of the same x it becomes one op. */
export function swiglu(stage: Stage, gate: GpuTensor, up: GpuTensor): GpuTensor {
  sameShape("swiglu", gate, up);
  return gatedLinear(stage, gate, up) ?? elementwise(stage, kernels.swiglu, gate, up);
}

function elementwise(stage: Stage, spec: kernels.KernelSpec, x: GpuTensor, y: GpuTensor) {
  const size = elements(spec.name, x.shape);
  const from = [x.target, y.target];
  const z = stage.slice(spec.name, x.shape);
  stage.dispatch(spec, [size], [...from, target(z.result, z.offset, z.bytes)], spread(size));
  return stage.tensor(spec.name, x.shape, z);
}

/** A rotation that is not computed yet; attention.ts joins it with others. */
export interface Rotation {
  readonly x: GpuTensor;
  readonly positions: Uint32Array;
  readonly spec: Rope;
}

const rotations = new WeakMap<GpuTensor, Rotation>();

/** The rotation a tensor stands for, if it is not computed yet. */
export function rotationOf(stage: Stage, tensor: GpuTensor): Rotation | undefined {
  return stage.pending.has(tensor) ? rotations.get(tensor) : undefined;
}

/** @param x [tokens, heads * headDim] */
export function rope(stage: Stage, x: GpuTensor, positions: Uint32Array, spec: Rope): GpuTensor {
  const { tokens, width, half } = ropeShape(x, positions, spec);
  const turned = stage.later("rope", x.shape, () => {
    const from = x.target;
    const y = stage.slice("rope", x.shape);
    stage.dispatch(
      kernels.rope,
      [width, half, spec.layout === "half" ? half : 1, stage.data.put(positions)],
      [from, ropeTable(stage, spec, positions), stepData, target(y.result, y.offset, y.bytes)],
      [Math.ceil(width / 2 / 64), tokens, 1],
    );
    return y;
  });
  rotations.set(turned, { x, positions, spec });
  return turned;
}

/** Positions beyond the step's that steps run ahead of the host may use; at least a page. */
const AHEAD = 64;

/** The table of a rotation as a binding, large enough for the positions. */
export function ropeTable(stage: Stage, spec: Rope, positions: Uint32Array) {
  const largest = AHEAD + positions.reduce((a, b) => Math.max(a, b), 0);
  const buffer = stage.ropes.get(spec, largest);
  return target(buffer, 0, buffer.size);
}
