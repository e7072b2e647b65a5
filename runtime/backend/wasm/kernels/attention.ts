import { type Expr, f32, f32x4, i32, i8x16, v128 } from "../emit/expr.ts";
import { type Func, kernel, type Local, type Params } from "../emit/func.ts";
import {
  type ExpConstants,
  expConstants,
  exponential,
  largestLane,
  plus,
  sumOfLanes,
} from "./_exp.ts";

/** Query vectors that share each load of a key and a value; more need more registers than there are. */
export const QUERIES = 2;

const signature = {
  q: "i32",
  out: "i32",
  tokens: "i32",
  rowBytes: "i32",
  heads: "i32",
  bytes: "i32",
  padded: "i32",
  keys: "i32",
  values: "i32",
  slots: "i32",
  count: "i32",
  stride: "i32",
  keep: "i32",
  scale: "f32",
  scratch: "i32",
} as const;

/** Where weights are in scratch memory. */
export const weightsAt = (padded: number): number => 2 * QUERIES * padded;

/** Bytes of scratch memory of one call, to be had by no other at the time. */
export function scratchBytes(padded: number, stride: number, kept: number): number {
  return weightsAt(padded) + Math.max(QUERIES, kept) * stride;
}

/*
 * attention: some tokens that follow each other in a row, the query heads of one kv head.
 *
 *   w[s] = softmax over s of (q . k[s] * scale);  out = sum over s of w[s] * v[s]
 *
 * Source   Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, eq. 1; grouped queries after
 *          Ainslie et al. 2023, https://arxiv.org/abs/2305.13245
 * Shapes   q, out [tokens, heads, width], tokens `rowBytes` apart; slots [count + tokens - 1, rounded
 *          up to 4] byte offsets of slots from `keys` and `values`, in sequence order; each slot
 *          [padded]; scratch: vectors [2 * QUERIES, padded], then weights [QUERIES, stride / 4], or
 *          [tokens * heads, stride / 4] to keep all of them for the host
 * Types    f32; exp within 2 units in the last place
 * Order    q . k: lane j adds dimensions 4i + j from i = 0 up, then (0 + 1) + (2 + 3). Sum of
 *          exponentials: lane j adds slots 4i + j, then the same. Sums over values: slots in fours,
 *          ((p0 + p1) + (p2 + p3)) added to the sum, from slot 0 up; slots that a token does not see
 *          count with weight 0. All fixed by the places in `slots`.
 * Limits   `keep` is `stride` to keep all weights, else 0. Token t sees the first count + t slots, count >= 1; values of slots it does not see are
 *          finite; bytes are `4 * width` and, rounded up to 16, `padded`
 */
export const attention = kernel("attention", signature, (f, p) => {
  const i = f.local("i32"), all = f.local("i32", i32.mul(p.tokens, p.heads));
  const whole = f.local("i32", i32.and(all, i32.const(-QUERIES)));
  const context: Context = {
    ...p,
    constants: expConstants(f),
    weights: f.local("i32", plus(p.scratch, i32.mul(p.padded, i32.const(2 * QUERIES)))),
  };
  f.loop(i, whole, QUERIES, () => together(f, context, i, QUERIES));
  f.loop(i, all, 1, () => together(f, context, i, 1));
});

interface Context extends Params<typeof signature> {
  readonly constants: ExpConstants;
  readonly weights: Local<"i32">;
}

/** One query vector on its way. */
interface Query {
  /** The vector, padded, and where its sums go, with room for padding. */
  readonly q: Local<"i32">;
  readonly sums: Local<"i32">;
  readonly out: Local<"i32">;
  readonly weights: Local<"i32">;
  /** Bytes of its weights. */
  readonly end: Local<"i32">;
}

/** `number` vectors from vector `first` on, counted over tokens and heads. */
function together(f: Func, p: Context, first: Local<"i32">, number: number): void {
  const queries = Array.from({ length: number }, (_, n) => query(f, p, first, n));
  // The last vector sees most.
  const filled = f.local("i32", i32.and(plus(queries.at(-1)!.end, 15), i32.const(-16)));
  scores(f, p, queries, filled);
  for (const one of queries) softmax(f, p, one, filled);
  weightedSums(f, p, queries, filled);
  f.if(i32.ltU(p.bytes, p.padded), () => {
    for (const { sums, out } of queries) copy(f, sums, out, p.bytes);
  });
}

function query(f: Func, p: Context, first: Local<"i32">, n: number): Query {
  const index = f.local("i32", plus(first, n));
  const token = f.local("i32", i32.divU(index, p.heads));
  const head = i32.sub(index, i32.mul(token, p.heads));
  const at = f.local("i32", plus(i32.mul(token, p.rowBytes), i32.mul(head, p.bytes)));
  const q = f.local("i32", plus(p.q, at)), out = f.local("i32", plus(p.out, at));
  const sums = f.local("i32", out);
  // Vectors that are no whole ones go through scratch, whose ends are zeros.
  f.if(i32.ltU(p.bytes, p.padded), () => {
    const place = f.local("i32", plus(p.scratch, i32.mul(p.padded, i32.const(2 * n))));
    f.store(plus(place, i32.sub(p.padded, i32.const(16))), v128.zero);
    copy(f, q, place, p.bytes);
    f.set(q, place);
    f.set(sums, plus(place, p.padded));
  });
  return {
    q,
    sums,
    out,
    weights: f.local(
      "i32",
      plus(plus(p.weights, i32.mul(p.stride, i32.const(n))), i32.mul(p.keep, first)),
    ),
    end: f.local("i32", i32.shl(i32.add(p.count, token), i32.const(2))),
  };
}

function copy(f: Func, from: Expr<"i32">, to: Expr<"i32">, bytes: Expr<"i32">): void {
  const i = f.local("i32", i32.const(0));
  f.loop(i, bytes, 4, () => f.store(plus(to, i), f32.load(plus(from, i))));
}

/** Variables with the addresses of four slots, the first of which is at s. */
function slotAddresses(f: Func, base: Expr<"i32">, slots: Expr<"i32">): readonly Local<"i32">[] {
  const at = f.local("i32", slots);
  return [0, 4, 8, 12].map((offset) => f.local("i32", plus(base, i32.load(at, offset))));
}

function scores(f: Func, p: Context, queries: readonly Query[], filled: Local<"i32">): void {
  const s = f.local("i32", i32.const(0)), d = f.local("i32"), key = f.local("v128");
  const scale = f.local("v128", f32x4.splat(p.scale));
  const vectors = queries.map(() => f.local("v128"));
  const sums = queries.map(() => [0, 1, 2, 3].map(() => f.local("v128")));
  f.loop(s, filled, 16, () => {
    const rows = slotAddresses(f, p.keys, plus(p.slots, s));
    for (const sum of sums.flat()) f.set(sum, v128.zero);
    f.set(d, i32.const(0));
    f.loop(d, p.padded, 16, () => {
      for (const [n, { q }] of queries.entries()) f.set(vectors[n]!, v128.load(plus(q, d)));
      for (const [i, row] of rows.entries()) {
        f.set(key, v128.load(plus(row, d)));
        for (const [n, vector] of vectors.entries()) {
          const sum = sums[n]![i]!;
          f.set(sum, f32x4.add(sum, f32x4.mul(vector, key)));
        }
      }
    });
    for (const [n, { weights }] of queries.entries()) {
      const sum = (i: number) => sums[n]![i]!;
      const four = pairSums(pairSums(sum(0), sum(1)), pairSums(sum(2), sum(3)));
      f.store(plus(weights, s), f32x4.mul(four, scale));
    }
  });
  for (const { weights, end } of queries) {
    f.set(s, end);
    f.loop(s, filled, 4, () => f.store(plus(weights, s), f32.const(-Infinity)));
  }
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
function softmax(f: Func, p: Context, { weights }: Query, filled: Local<"i32">): void {
  const s = f.local("i32", i32.const(0)), best = f.local("v128"), total = f.local("v128");
  f.set(best, f32x4.const(-Infinity));
  f.loop(s, filled, 16, () => f.set(best, f32x4.pmax(best, v128.load(plus(weights, s)))));
  f.set(best, f32x4.splat(largestLane(best)));
  f.set(total, v128.zero);
  f.set(s, i32.const(0));
  f.loop(s, filled, 16, () => {
    const less = f32x4.sub(v128.load(plus(weights, s)), best);
    const e = exponential(f, less, p.constants, "negative");
    f.store(plus(weights, s), e);
    f.set(total, f32x4.add(total, e));
  });
  f.set(total, f32x4.splat(sumOfLanes(total)));
  f.set(s, i32.const(0));
  f.loop(s, filled, 16, () => {
    f.store(plus(weights, s), f32x4.div(v128.load(plus(weights, s)), total));
  });
}

function weightedSums(f: Func, p: Context, queries: readonly Query[], filled: Local<"i32">): void {
  const s = f.local("i32", i32.const(0)), d = f.local("i32");
  const ws = queries.map(() => [0, 1, 2, 3].map(() => f.local("v128")));
  const values = [0, 1, 2, 3].map(() => f.local("v128"));
  f.set(d, i32.const(0));
  f.loop(d, p.padded, 16, () => {
    for (const { sums } of queries) f.store(plus(sums, d), v128.zero);
  });
  f.loop(s, filled, 16, () => {
    const rows = slotAddresses(f, p.values, plus(p.slots, s));
    for (const [n, { weights }] of queries.entries()) {
      const at = f.local("i32", plus(weights, s));
      for (const [i, w] of ws[n]!.entries()) f.set(w, v128.load32Splat(at, 4 * i));
    }
    f.set(d, i32.const(0));
    f.loop(d, p.padded, 16, () => {
      for (const [i, row] of rows.entries()) f.set(values[i]!, v128.load(plus(row, d)));
      for (const [n, { sums }] of queries.entries()) {
        const product = (i: number) => f32x4.mul(ws[n]![i]!, values[i]!);
        const four = f32x4.add(
          f32x4.add(product(0), product(1)),
          f32x4.add(product(2), product(3)),
        );
        f.store(plus(sums, d), f32x4.add(v128.load(plus(sums, d)), four));
      }
    });
  });
}
