/** Kernels that work on each value by itself. */
import { f32x4, v128 } from "../emit/expr.ts";
import { kernel } from "../emit/func.ts";
import { expConstants, exponential, plus } from "./_exp.ts";

/*
 * add: z = x + y, element by element.
 *
 * Source   none needed
 * Shapes   x, y, z [bytes / 4]
 * Types    f32
 * Order    one addition each
 * Limits   bytes is a multiple of 16: tensors are padded to whole vectors. z may be x or y.
 */
export const add = kernel(
  "add",
  { x: "i32", y: "i32", z: "i32", bytes: "i32" },
  (f, { x, y, z, bytes }) => {
    const i = f.local("i32");
    f.loop(i, bytes, 16, () => {
      f.store(plus(z, i), f32x4.add(v128.load(plus(x, i)), v128.load(plus(y, i))));
    });
  },
);

/*
 * swiglu: y = silu(gate) * up with silu(v) = v / (1 + exp(-v)), element by element.
 *
 * Source   Shazeer 2020, https://arxiv.org/abs/2002.05202, without the linear layers
 * Shapes   gate, up, y [bytes / 4]
 * Types    f32; exp within 2 units in the last place, see `exponential`
 * Order    exp, addition, division, multiplication
 * Limits   bytes is a multiple of 16. y may be gate or up.
 */
export const swiglu = kernel(
  "swiglu",
  { gate: "i32", up: "i32", y: "i32", bytes: "i32" },
  (f, { gate, up, y, bytes }) => {
    const i = f.local("i32"), g = f.local("v128"), one = f.local("v128", f32x4.const(1));
    const constants = expConstants(f);
    f.loop(i, bytes, 16, () => {
      f.set(g, v128.load(plus(gate, i)));
      const e = exponential(f, f32x4.neg(g), constants);
      const silu = f32x4.div(g, f32x4.add(one, e));
      f.store(plus(y, i), f32x4.mul(silu, v128.load(plus(up, i))));
    });
  },
);
