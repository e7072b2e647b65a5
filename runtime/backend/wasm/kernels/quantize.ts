import { f32, f32x4, i16x8, i32, i32x4, i8x16, v128 } from "../emit/expr.ts";
import { kernel } from "../emit/func.ts";
import { plus } from "./_exp.ts";

/** Bytes of one block of quantised activations. */
export const X_BLOCK_BYTES = 48;

/*
 * quantize: rows of x in blocks of 32 values as integers times a scale.
 *
 *   scale = max |x| / 127;  q = round(x / scale), ties to even
 *
 * Source   ggml's Q8_0 (block size, scale), https://github.com/ggml-org/ggml; there ties go away
 *          from zero
 * Shapes   x [blocks, 32] -> blocks of 48 bytes: 32 x i8, scale f32, minus the sum of q as i32, 8
 *          unused
 * Types    f32 to i8 in -127 .. 127
 * Order    each block by itself
 * Limits   not finite values give a block that means nothing, and hurt no other
 */
export const quantize = kernel(
  "quantize",
  { x: "i32", out: "i32", blocks: "i32" },
  (f, { x, out, blocks }) => {
    const b = f.local("i32"), i = f.local("i32");
    const most = f.local("v128"), inverse = f.local("v128"), sum = f.local("v128");
    const largest = f.local("f32");
    const parts = [0, 1, 2, 3].map(() => f.local("v128"));
    f.loop(b, blocks, 1, () => {
      f.set(most, v128.zero);
      f.set(i, i32.const(0));
      f.loop(i, i32.const(128), 16, () => {
        f.set(most, f32x4.pmax(most, f32x4.abs(v128.load(plus(x, i)))));
      });
      const lane = (l: number) => f32x4.extractLane(most, l);
      f.set(largest, f32.max(f32.max(lane(0), lane(1)), f32.max(lane(2), lane(3))));
      f.set(inverse, v128.zero);
      // The smallest scales have no finite inverse; such blocks count as zeros.
      f.if(f32.gt(largest, f32.const(2 ** -120)), () => {
        f.set(inverse, f32x4.splat(f32.div(f32.const(127), largest)));
      });
      f.set(sum, v128.zero);
      for (let half = 0; half < 2; half++) {
        for (const [k, part] of parts.entries()) {
          const value = f32x4.mul(v128.load(x, 64 * half + 16 * k), inverse);
          f.set(part, i32x4.truncSatF32x4S(f32x4.nearest(value)));
          f.set(sum, i32x4.add(sum, part));
        }
        const [p0, p1, p2, p3] = parts as [typeof most, typeof most, typeof most, typeof most];
        const low = i16x8.narrowI32x4S(p0, p1), high = i16x8.narrowI32x4S(p2, p3);
        f.store(out, i8x16.narrowI16x8S(low, high), 16 * half);
      }
      f.store(out, f32.div(largest, f32.const(127)), 32);
      const of = (l: number) => i32x4.extractLane(sum, l);
      const total = i32.add(i32.add(of(0), of(1)), i32.add(of(2), of(3)));
      f.store(out, i32.sub(i32.const(0), total), 36);
      f.advance(x, 128);
      f.advance(out, X_BLOCK_BYTES);
    });
  },
);
