/** RMS norm. */
import { ShapeError } from "../../errors.ts";
import { matrix } from "../cpu/tensor.ts";
import { cut } from "./cut.ts";
import type { Step } from "./step.ts";
import type { WasmTensor } from "./tensor.ts";

/** x [rows, n * cols], weight [cols]; each run of `cols` columns is normalised by itself. */
export function rmsNorm(step: Step, x: WasmTensor, weight: WasmTensor, eps: number): WasmTensor {
  const [rows, width] = matrix("rms_norm", x);
  const cols = weight.shape[0] ?? 0;
  if (weight.shape.length !== 1 || cols === 0 || width % cols !== 0) {
    throw new ShapeError(
      "rms_norm",
      `rows of ${width} columns do not divide into a weight of [${weight.shape.join(", ")}]`,
    );
  }
  const y = step.scope.alloc("rms_norm", x.shape);
  const count = rows * (width / cols);
  const parts = cut(step, count, 1, 4 * cols).map(({ from, count: some }) => [
    x.address + 4 * cols * from,
    weight.address,
    y.address + 4 * cols * from,
    some,
    cols,
    eps,
  ]);
  step.team.run("rmsNorm", parts);
  return y;
}
