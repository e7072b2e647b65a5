/** linear on the host side: lays out or quantises operands, and cuts many rows into blocks. */
import { linearShape } from "../cpu/shapes.ts";
import { matrix } from "../cpu/tensor.ts";
import { BLOCK } from "./blocks.ts";
import { cut } from "./cut.ts";
import { PANEL_ROWS } from "./kernels/linear_formats.ts";
import { X16, X7, X8 } from "./kernels/quantize.ts";
import { asRows } from "./rows.ts";
import { once, type Step } from "./step.ts";
import type { WasmTensor } from "./tensor.ts";

/** Rows of x are taken so many bytes at a time, so that they stay in the second-level cache. */
const BLOCK_BYTES = 256 * 1024;

/**
 * @param x [rows, K]
 * @param weight [N, K]
 * @param bias [N]
 * @returns [rows, N]
 */
export function linear(
  step: Step,
  x: WasmTensor,
  weight: WasmTensor,
  bias: WasmTensor | undefined,
): WasmTensor {
  const { rows, depth, outputs } = linearShape(x, weight, bias);
  const y = step.scope.alloc("linear", [rows, outputs]);
  const from = asRows(step, "linear", x);
  const multiply = weight.dtype === "f32" ? multiplyF32 : multiplyBlocks;
  multiply(step, { from, weight, bias: bias?.address ?? 0, y, rows, depth, outputs });
  return y;
}

interface Operands {
  readonly from: WasmTensor;
  readonly weight: WasmTensor;
  readonly bias: number;
  readonly y: WasmTensor;
  readonly rows: number;
  readonly depth: number;
  readonly outputs: number;
}

/** What rounding a value costs, in multiplications. */
const QUANTIZE_WORK = 16;

function multiplyF32(step: Step, { from, weight, bias, y, rows, depth, outputs }: Operands): void {
  const source = from === weight ? copyOf(step, from) : from;
  interleave(step, weight);
  const block = Math.max(4, Math.floor(BLOCK_BYTES / (4 * depth) / 4) * 4);
  for (let start = 0; start < rows; start += block) {
    run(step, "linear", {
      x: source.address + 4 * depth * start,
      weight: weight.address,
      panelBytes: 4 * PANEL_ROWS * depth,
      bias,
      y: y.address + 4 * outputs * start,
      rows: Math.min(block, rows - start),
      depth,
      terms: depth,
      outputs,
    });
  }
}

function multiplyBlocks(
  step: Step,
  { from, weight, bias, y, rows, depth, outputs }: Operands,
): void {
  const { scope } = step;
  const isQ8 = weight.dtype === "q8";
  const quantize = isQ8 ? "quantize7" : "quantize8";
  const blockOf = !step.relaxed ? X16 : isQ8 ? X7 : X8;
  const perRow = depth / BLOCK, rowBytes = perRow * blockOf.bytes;
  // The same activations go through several matrices (q, k and v; gate and up).
  const quantized = once(step, quantize, from, () => {
    const address = scope.scratch("quantized", rows * rowBytes);
    const parts = cut(step, rows, 1, depth * QUANTIZE_WORK).map(({ from: row, count }) => [
      from.address + 4 * depth * row,
      address + rowBytes * row,
      count * perRow,
    ]);
    step.team.run(quantize, parts);
    return address;
  });
  const block = Math.max(4, Math.floor(BLOCK_BYTES / rowBytes / 4) * 4);
  for (let start = 0; start < rows; start += block) {
    run(step, isQ8 ? "linearQ8" : "linearQ4", {
      x: quantized + rowBytes * start,
      weight: weight.address,
      panelBytes: weight.bytes / Math.ceil(outputs / PANEL_ROWS),
      bias,
      y: y.address + 4 * outputs * start,
      rows: Math.min(block, rows - start),
      depth: perRow,
      terms: depth,
      outputs,
    });
  }
}

/** Addresses and sizes of one call. */
interface Call {
  readonly x: number;
  readonly weight: number;
  /** Bytes of PANEL_ROWS outputs' weights. */
  readonly panelBytes: number;
  readonly bias: number;
  readonly y: number;
  readonly rows: number;
  /** Columns or blocks, as the kernel counts them. */
  readonly depth: number;
  /** Products per output. */
  readonly terms: number;
  readonly outputs: number;
}

/** Runs the kernel, cut by outputs. */
function run(step: Step, kernel: "linear" | "linearQ8" | "linearQ4", call: Call): void {
  const { x, weight, panelBytes, bias, y, rows, depth, terms, outputs } = call;
  const parts = cut(step, outputs, PANEL_ROWS, rows * terms).map(({ from, count }) => [
    x,
    weight + from / PANEL_ROWS * panelBytes,
    bias === 0 ? 0 : bias + 4 * from,
    y + 4 * from,
    rows,
    depth,
    count,
    outputs,
  ]);
  step.team.run(kernel, parts);
}

/** x as it is before it is interleaved as a weight. */
function copyOf(step: Step, x: WasmTensor): WasmTensor {
  const copy = step.scope.alloc("linear", x.shape);
  const size = matrix("linear", x).reduce((a, b) => a * b);
  step.heap.floats.copyWithin(copy.address / 4, x.address / 4, x.address / 4 + size);
  return copy;
}

/** Brings a matrix into the layout of weights, in place. */
function interleave({ heap, kernels, scope }: Step, weight: WasmTensor): void {
  if (weight.layout === "fours") return;
  const [outputs, depth] = matrix("linear", weight);
  const groups = Math.ceil(outputs / 4);
  const end = weight.address / 4 + groups * 4 * depth;
  heap.floats.fill(0, weight.address / 4 + outputs * depth, end);
  kernels.interleave(weight.address, scope.scratch("interleave", 16 * depth), groups, depth);
  weight.layout = "fours";
}
