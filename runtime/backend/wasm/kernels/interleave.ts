import { type Expr, f32, i32, v128 } from "../emit/expr.ts";
import { kernel } from "../emit/func.ts";
import { plus } from "./_exp.ts";

/*
 * interleave: rows of a weight matrix in groups of four, in place: the value of row 4g + i and
 * column k moves to place 4k + i of group g.
 *
 * Source   layout for GEMV without sums over lanes; a column of a group is one vector
 * Shapes   weight [4 * groups, depth] -> [groups, depth, 4]; scratch [4, depth]
 * Types    f32
 * Limits   scratch and weight do not overlap
 */
export const interleave = kernel(
  "interleave",
  { weight: "i32", scratch: "i32", groups: "i32", depth: "i32" },
  (f, { weight, scratch, groups, depth }) => {
    const g = f.local("i32"), i = f.local("i32"), row = f.local("i32");
    const bytes = f.local("i32", i32.shl(depth, i32.const(2)));
    const all = f.local("i32", i32.shl(depth, i32.const(4)));
    f.loop(g, groups, 1, () => {
      f.set(i, i32.const(0));
      f.loop(i, all, 16, () => f.store(plus(scratch, i), v128.load(plus(weight, i))));
      f.set(i, i32.const(0));
      f.set(row, scratch);
      f.loop(i, all, 16, () => {
        let from: Expr<"i32"> = row;
        for (let lane = 0; lane < 4; lane++) {
          f.store(plus(weight, i), f32.load(from), 4 * lane);
          from = plus(from, bytes);
        }
        f.advance(row, 4);
      });
      f.advance(weight, all);
    });
  },
);
