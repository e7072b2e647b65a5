import { f32, f32x4, i32, v128 } from "../emit/expr.ts";
import { kernel } from "../emit/func.ts";
import { plus } from "./_exp.ts";

/*
 * rope: rotates pairs of every head by an angle proportional to the token's position.
 *
 *   (a, b) -> (a cos - b sin, b cos + a sin)
 *
 * Source   Su et al. 2021, https://arxiv.org/abs/2104.09864, eq. 34
 * Shapes   x, y [tokens, heads, 2 * half]; turn [tokens, 2, half]: cosines, then sines
 * Types    f32; the host computes angles in f64
 * Order    two products and one sum each
 * Limits   `gap` and `step` are in bytes: 4 half and 4 for pairs (i, i + half), 4 and 8 for pairs
 *          (2i, 2i + 1). y may not be x.
 */
export const rope = kernel(
  "rope",
  {
    x: "i32",
    y: "i32",
    turn: "i32",
    tokens: "i32",
    heads: "i32",
    half: "i32",
    gap: "i32",
    step: "i32",
  },
  (f, { x, y, turn, tokens, heads, half, gap, step }) => {
    const t = f.local("i32"), h = f.local("i32"), i = f.local("i32"), at = f.local("i32");
    const bytes = f.local("i32", i32.shl(half, i32.const(2)));
    // Whole vectors only where the members of neighbouring pairs are neighbours.
    const whole = f.local("i32");
    f.if(i32.eq(step, i32.const(4)), () => f.set(whole, i32.and(bytes, i32.const(-16))));
    const a = f.local("f32"), b = f.local("f32"), cos = f.local("f32"), sin = f.local("f32");
    const a4 = f.local("v128"), b4 = f.local("v128");
    f.loop(t, tokens, 1, () => {
      f.set(h, i32.const(0));
      f.loop(h, heads, 1, () => {
        f.set(i, i32.const(0));
        f.set(at, i32.const(0));
        f.loop(i, whole, 16, () => {
          f.set(a4, v128.load(plus(x, i)));
          f.set(b4, v128.load(plus(plus(x, i), gap)));
          const cos4 = v128.load(plus(turn, i)), sin4 = v128.load(plus(plus(turn, i), bytes));
          f.store(plus(y, i), f32x4.sub(f32x4.mul(a4, cos4), f32x4.mul(b4, sin4)));
          const second = f32x4.add(f32x4.mul(b4, cos4), f32x4.mul(a4, sin4));
          f.store(plus(plus(y, i), gap), second);
          f.advance(at, 16);
        });
        f.loop(i, bytes, 4, () => {
          f.set(a, f32.load(plus(x, at)));
          f.set(b, f32.load(plus(plus(x, at), gap)));
          f.set(cos, f32.load(plus(turn, i)));
          f.set(sin, f32.load(plus(plus(turn, i), bytes)));
          f.store(plus(y, at), f32.sub(f32.mul(a, cos), f32.mul(b, sin)));
          f.store(plus(plus(y, at), gap), f32.add(f32.mul(b, cos), f32.mul(a, sin)));
          f.advance(at, step);
        });
        f.advance(x, i32.shl(bytes, i32.const(1)));
        f.advance(y, i32.shl(bytes, i32.const(1)));
      });
      f.advance(turn, i32.shl(bytes, i32.const(1)));
    });
  },
);
