/** linear on the host side: interleaves weights on first use, and cuts many rows into blocks. */
import { ShapeError } from "../../errors.ts";
import { matrix } from "../cpu/tensor.ts";
import { asRows } from "./rows.ts";
import type { Step } from "./step.ts";
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
  const [rows, depth] = matrix("linear", x);
  const [outputs, inputs] = matrix("linear", weight);
  if (depth !== inputs) {
    throw new ShapeError("linear", `x has ${depth} columns, weight ${weight.label} ${inputs}`);
  }
  if (bias !== undefined && (bias.shape.length !== 1 || bias.shape[0] !== outputs)) {
    throw new ShapeError("linear", `bias is [${bias.shape.join(", ")}], should be [${outputs}]`);
  }
  interleave(step, weight);
  const from = asRows(step, "linear", x);
  const y = step.scope.alloc("linear", [rows, outputs]);
  const block = Math.max(4, Math.floor(BLOCK_BYTES / (4 * depth) / 4) * 4);
  for (let start = 0; start < rows; start += block) {
    step.kernels.linear(
      from.address + 4 * depth * start,
      weight.address,
      bias?.address ?? 0,
      y.address + 4 * outputs * start,
      Math.min(block, rows - start),
      depth,
      outputs,
    );
  }
  return y;
}

/** Brings a matrix into the layout of weights, in place. */
function interleave({ heap, kernels, scope }: Step, weight: WasmTensor): void {
  if (weight.layout === "fours") return;
  const [outputs, depth] = matrix("linear", weight);
  const groups = Math.ceil(outputs / 4);
  const end = weight.address / 4 + groups * 4 * depth;
  heap.floats.fill(0, weight.address / 4 + outputs * depth, end);
  kernels.interleave(weight.address, scope.block("interleave", 16 * depth), groups, depth);
  weight.layout = "fours";
}
