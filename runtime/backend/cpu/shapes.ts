/** What ops ask of their operands' shapes, for every backend. */
import { ShapeError } from "../../errors.ts";
import type { Rope, Tensor } from "../backend.ts";
import { matrix } from "./tensor.ts";

/**
 * Sizes of a linear layer.
 *
 * @param x [rows, K]
 * @param weight [N, K]
 * @param bias [N]
 * @throws {ShapeError} if they do not fit together
 */
export function linearShape(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | undefined,
): { readonly rows: number; readonly depth: number; readonly outputs: number } {
  const [rows, depth] = matrix("linear", x);
  const [outputs, inputs] = matrix("linear", weight);
  if (depth !== inputs) {
    throw new ShapeError("linear", `x has ${depth} columns, weight ${weight.label} ${inputs}`);
  }
  if (bias !== undefined && (bias.shape.length !== 1 || bias.shape[0] !== outputs)) {
    throw new ShapeError("linear", `bias is [${bias.shape.join(", ")}], should be [${outputs}]`);
  }
  return { rows, depth, outputs };
}

/**
 * Sizes of a rotation.
 *
 * @param x [tokens, heads * headDim]
 * @param positions one per token
 * @throws {ShapeError} if they do not fit together
 */
export function ropeShape(
  x: Tensor,
  positions: Uint32Array,
  { headDim, frequencies }: Rope,
): { readonly tokens: number; readonly width: number; readonly half: number } {
  const [tokens, width] = matrix("rope", x);
  const half = headDim / 2;
  if (width % headDim !== 0 || positions.length !== tokens || frequencies.length !== half) {
    throw new ShapeError(
      "rope",
      `x is [${x.shape.join(", ")}], headDim ${headDim}, ` +
        `${positions.length} positions, ${frequencies.length} frequencies`,
    );
  }
  return { tokens, width, half };
}
