/** add: z = x + y, element by element. */
import { type Alloc, type CpuTensor, sameShape } from "./tensor.ts";

/** @returns a tensor of the shape both arguments have */
export function add(alloc: Alloc, x: CpuTensor, y: CpuTensor): CpuTensor {
  sameShape("add", x, y);
  const z = alloc("add", x.shape);
  const a = x.data, b = y.data, out = z.data;
  for (let i = 0; i < out.length; i++) out[i] = a[i]! + b[i]!;
  return z;
}
