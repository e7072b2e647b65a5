import { type Expr, f32, f32x4, i32, i8x16, v128 } from "../emit/expr.ts";
import { type Func, kernel, type Local } from "../emit/func.ts";
import { exponential, plus, sumOfLanes } from "./_exp.ts";

/*
 * attention: one token, the query heads of one kv head.
 *
 *   w[s] = softmax over s of (q . k[s] * scale);  out = sum over s of w[s] * v[s]
 *
 * Source   Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, eq. 1; grouped queries after
 *          Ainslie et al. 2023, https://arxiv.org/abs/2305.13245
 * Shapes   q, out [heads, width]; slots [count] byte offsets of slots from `keys` and `values`, in
 *          sequence order; each slot [padded]; weights [heads, stride / 4], kept for the host;
 *          scratch [2, padded], whose first half ends in zeros from `width` on
 * Types    f32; exp within 2 units in the last place
 * Order    q . k: lane j adds dimensions 4i + j from i = 0 up, then (0 + 1) + (2 + 3). Sum of
 *          exponentials: lane j adds slots 4i + j, then the same. Sums over values: slots in fours,
 *          ((p0 + p1) + (p2 + p3)) added to the sum, from slot 0 up; the last four is filled up with
 *          its last slot at weight 0. All fixed by the places in `slots`.
 * Limits   count >= 1; bytes are `4 * width` and, rounded up to 16, `padded`
 */
export const attention = kernel(
  "attention",
  {
    q: "i32",
    out: "i32",
    heads: "i32",
    bytes: "i32",
    padded: "i32",
    keys: "i32",
    values: "i32",
    slots: "i32",
    count: "i32",
    weights: "i32",
    stride: "i32",
    scratch: "i32",
    scale: "f32",
  },
  (f, p) => {
    const h = f.local("i32"), i = f.local("i32");
    const end = f.local("i32", i32.shl(p.count, i32.const(2)));
    const filled = f.local("i32", i32.and(plus(end, 15), i32.const(-16)));
    const last = f.local("i32", i32.sub(end, i32.const(4)));
    const sums = f.local("i32", plus(p.scratch, p.padded));
    const parts: Parts = { ...p, end, filled, last, sums };
    f.loop(h, p.heads, 1, () => {
      f.set(i, i32.const(0));
      f.loop(i, p.bytes, 4, () => f.store(plus(p.scratch, i), f32.load(plus(p.q, i))));
      scores(f, parts);
      softmax(f, parts);
      weightedSum(f, parts);
      f.set(i, i32.const(0));
      f.loop(i, p.bytes, 4, () => f.store(plus(p.out, i), f32.load(plus(sums, i))));
      f.advance(p.q, p.bytes);
      f.advance(p.out, p.bytes);
      f.advance(p.weights, p.stride);
    });
  },
);

interface Parts {
  readonly padded: Local<"i32">;
  readonly keys: Local<"i32">;
  readonly values: Local<"i32">;
  readonly slots: Local<"i32">;
  readonly weights: Local<"i32">;
  readonly scratch: Local<"i32">;
  readonly scale: Local<"f32">;
  /** Bytes of `count` weights, and rounded up to whole vectors. */
  readonly end: Local<"i32">;
  readonly filled: Local<"i32">;
  /** Where the last slot is in `slots`. */
  readonly last: Local<"i32">;
  readonly sums: Local<"i32">;
}

/** Sets four variables to the addresses of slots at s to s + 12, the last one repeated. */
function slotAddresses(
  f: Func,
  base: Local<"i32">,
  s: Local<"i32">,
  { slots, last }: Parts,
  into: readonly Local<"i32">[],
): void {
  const at = f.local("i32", s);
  for (const variable of into) {
    f.set(variable, plus(base, i32.load(plus(slots, at))));
    f.if(i32.ltU(at, last), () => f.advance(at, 4));
  }
}

function variables<T extends "i32" | "v128">(f: Func, type: T): Local<T>[] {
  return [0, 1, 2, 3].map(() => f.local(type));
}

function scores(f: Func, parts: Parts): void {
  const { keys, weights, scratch, padded, scale, end, filled } = parts;
  const s = f.local("i32"), d = f.local("i32"), q = f.local("v128");
  const rows = variables(f, "i32"), sums = variables(f, "v128");
  f.set(s, i32.const(0));
  f.loop(s, filled, 16, () => {
    slotAddresses(f, keys, s, parts, rows);
    for (const sum of sums) f.set(sum, v128.zero);
    f.set(d, i32.const(0));
    f.loop(d, padded, 16, () => {
      f.set(q, v128.load(plus(scratch, d)));
      for (const [i, sum] of sums.entries()) {
        f.set(sum, f32x4.add(sum, f32x4.mul(q, v128.load(plus(rows[i]!, d)))));
      }
    });
    const [a, b, c, e] = sums as [Local<"v128">, Local<"v128">, Local<"v128">, Local<"v128">];
    f.set(a, pairSums(a, b));
    f.set(c, pairSums(c, e));
    f.store(plus(weights, s), f32x4.mul(pairSums(a, c), f32x4.splat(scale)));
  });
  f.set(s, end);
  f.loop(s, filled, 4, () => f.store(plus(weights, s), f32.const(-Infinity)));
}

/** [a0 + a1, a2 + a3, b0 + b1, b2 + b3] */
function pairSums(a: Expr<"v128">, b: Expr<"v128">): Expr<"v128"> {
  const pick = (...lanes: number[]) =>
    lanes.flatMap((l) => [4 * l, 4 * l + 1, 4 * l + 2, 4 * l + 3]);
  return f32x4.add(
    i8x16.shuffle(a, b, pick(0, 2, 4, 6)),
    i8x16.shuffle(a, b, pick(1, 3, 5, 7)),
  );
}

/** Scores become weights that add up to 1. */
function softmax(f: Func, { weights, filled }: Parts): void {
  const s = f.local("i32"), best = f.local("v128"), total = f.local("v128");
  f.set(best, f32x4.const(-Infinity));
  f.set(s, i32.const(0));
  f.loop(s, filled, 16, () => f.set(best, f32x4.pmax(best, v128.load(plus(weights, s)))));
  const lane = (i: number) => f32x4.extractLane(best, i);
  f.set(
    best,
    f32x4.splat(f32.max(f32.max(lane(0), lane(1)), f32.max(lane(2), lane(3)))),
  );
  f.set(total, v128.zero);
  f.set(s, i32.const(0));
  f.loop(s, filled, 16, () => {
    const e = exponential(f, f32x4.sub(v128.load(plus(weights, s)), best));
    f.store(plus(weights, s), e);
    f.set(total, f32x4.add(total, e));
  });
  f.set(total, f32x4.splat(sumOfLanes(total)));
  f.set(s, i32.const(0));
  f.loop(s, filled, 16, () => {
    f.store(plus(weights, s), f32x4.div(v128.load(plus(weights, s)), total));
  });
}

function weightedSum(f: Func, parts: Parts): void {
  const { values, weights, padded, filled, sums } = parts;
  const s = f.local("i32"), d = f.local("i32");
  const rows = variables(f, "i32"), ws = variables(f, "v128");
  f.set(d, i32.const(0));
  f.loop(d, padded, 16, () => f.store(plus(sums, d), v128.zero));
  f.set(s, i32.const(0));
  f.loop(s, filled, 16, () => {
    slotAddresses(f, values, s, parts, rows);
    for (const [i, w] of ws.entries()) f.set(w, v128.load32Splat(plus(weights, s), 4 * i));
    f.set(d, i32.const(0));
    f.loop(d, padded, 16, () => {
      const p = (i: number) => f32x4.mul(ws[i]!, v128.load(plus(rows[i]!, d)));
      const four = f32x4.add(f32x4.add(p(0), p(1)), f32x4.add(p(2), p(3)));
      f.store(plus(sums, d), f32x4.add(v128.load(plus(sums, d)), four));
    });
  });
}
