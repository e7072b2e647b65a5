/**
 * swiglu: y = silu(gate) * up with silu(v) = v / (1 + exp(-v)), element by element.
 *
 * Source: Shazeer 2020, https://arxiv.org/abs/2002.05202, without the linear layers.
 */
import { type Alloc, type CpuTensor, sameShape } from "./tensor.ts";

/** @returns a tensor of the shape both arguments have */
export function swiglu(alloc: Alloc, gate: CpuTensor, up: CpuTensor): CpuTensor {
  sameShape("swiglu", gate, up);
  const y = alloc("swiglu", gate.shape);
  const a = gate.data, b = up.data, out = y.data;
  for (let i = 0; i < out.length; i++) {
    const value = a[i]!;
    out[i] = value / (1 + Math.exp(-value)) * b[i]!;
  }
  return y;
}
