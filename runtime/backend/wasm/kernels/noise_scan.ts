import { type Expr, f32, f32x4, i32, i32x4, i64x2, i8x16, v128 } from "../emit/expr.ts";
import { type Func, kernel, type Local } from "../emit/func.ts";
import { expConstants, exponential, plus } from "./_exp.ts";

/** Tokens that are looked at together. */
export const SCAN_TOKENS = 16;
/** Third word of the counter of token noise; see runtime/rng.ts. */
const TOKEN_STREAM = 3;
/** Multipliers and steps of the key of Philox4x32. */
const M0 = 0xd2511f53, M1 = 0xcd9e8d57, W0 = 0x9e3779b9, W1 = 0xbb67ae85;
const ROUNDS = 10;

/*
 * noise_scan: the next tokens from `lowest` up that may have the largest score plus Gumbel noise.
 *
 *   A token with score s = (x - max) / T and uniform number u beats M only if 1 - u <= e^(s - M),
 *   because its noise is -ln(-ln u) and 1 - e^-t <= t. No logarithm is needed to see that it does not.
 *
 * Source   Salmon et al. 2011, Philox4x32-10, as in runtime/rng.ts: word j of block b is token 4b + j's
 * Shapes   x [count]; out: i32, the first of SCAN_TOKENS tokens of which one may beat M, or `count`
 *          rounded down to SCAN_TOKENS
 * Types    words exact; s, e^s and 1 - u in f32, each within 2^-18 of its value, for which `limit` has
 *          to leave room
 * Order    none: nothing is added up
 * Limits   limit = e^-M, a little more; from in multiples of SCAN_TOKENS
 */
export const noiseScan = kernel(
  "noise_scan",
  {
    x: "i32",
    from: "i32",
    count: "i32",
    max: "f32",
    inverse: "f32",
    lowest: "f32",
    limit: "f32",
    position: "i32",
    key0: "i32",
    key1: "i32",
    out: "i32",
  },
  (f, p) => {
    const constants = expConstants(f);
    const max = f.local("v128", f32x4.splat(p.max));
    const inverse = f.local("v128", f32x4.splat(p.inverse));
    // Complements of words are 2^32 (1 - u), less a half.
    const limit = f.local("v128", f32x4.splat(f32.mul(p.limit, f32.const(2 ** 32))));
    const end = f.local("i32", i32.and(p.count, i32.const(-SCAN_TOKENS)));
    const lowest = f.local("v128", f32x4.splat(p.lowest));
    const at = f.local("i32", p.from), found = f.local("v128"), from = f.local("i32");
    const keys = roundKeys(f, p.key0, p.key1);
    f.loop(at, end, SCAN_TOKENS, () => {
      f.set(from, plus(p.x, i32.shl(at, i32.const(2))));
      const four = (i: number) => v128.load(from, 16 * i);
      const kept = [0, 1, 2, 3].map((i) => f.local("v128", f32x4.ge(four(i), lowest)));
      f.if(v128.anyTrue(kept.reduce<Expr<"v128">>((a, b) => v128.or(a, b), v128.zero)), () => {
        const block = i32x4.add(i32x4.splat(i32.shrU(at, i32.const(2))), laneNumbers());
        const words = transpose(f, philox(f, block, p.position, keys));
        f.set(found, v128.zero);
        for (const [i, word] of words.entries()) {
          const score = f32x4.mul(f32x4.sub(four(i), max), inverse);
          const bound = f32x4.mul(exponential(f, score, constants, "negative"), limit);
          const mayWin = f32x4.le(f32x4.convertI32x4U(v128.not(word)), bound);
          f.set(found, v128.or(found, v128.and(mayWin, kept[i]!)));
        }
        f.if(v128.anyTrue(found), () => {
          f.store(p.out, at);
          f.return();
        });
      });
    });
    f.store(p.out, end);
  },
);

/** 0, 1, 2, 3 */
function laneNumbers(): Expr<"v128"> {
  return v128.bytes([0, 1, 2, 3].flatMap((lane) => [lane, 0, 0, 0]));
}

/** The two words of the key of every round. */
function roundKeys(
  f: Func,
  key0: Expr<"i32">,
  key1: Expr<"i32">,
): readonly (readonly [Local<"v128">, Local<"v128">])[] {
  const word = (key: Expr<"i32">, step: number, round: number) =>
    f.local("v128", i32x4.splat(plus(key, Math.imul(step, round))));
  return Array.from(
    { length: ROUNDS },
    (_, round) => [word(key0, W0, round), word(key1, W1, round)],
  );
}

/** Four blocks side by side: lane l of vector j is word j of block l. */
function philox(
  f: Func,
  block: Expr<"v128">,
  position: Expr<"i32">,
  keys: ReturnType<typeof roundKeys>,
): readonly Local<"v128">[] {
  const start = [block, i32x4.splat(position), i32x4.splat(i32.const(TOKEN_STREAM)), v128.zero];
  const x = start.map((word) => f.local("v128", word));
  const m = [M0, M1].map((multiplier) => f.local("v128", i32x4.splat(i32.const(multiplier))));
  const [x0, x1, x2, x3] = x as [Local<"v128">, Local<"v128">, Local<"v128">, Local<"v128">];
  for (const [k0, k1] of keys) {
    const first = product(f, x0, m[0]!), second = product(f, x2, m[1]!);
    f.set(x0, v128.xor(v128.xor(second.high, x1), k0));
    f.set(x2, v128.xor(v128.xor(first.high, x3), k1));
    f.set(x1, second.low);
    f.set(x3, first.low);
  }
  return x;
}

/** Both halves of the 64-bit products of four lanes. */
function product(f: Func, a: Local<"v128">, b: Local<"v128">) {
  const low = f.local("v128", i64x2.extmulLowI32x4U(a, b));
  const high = f.local("v128", i64x2.extmulHighI32x4U(a, b));
  return {
    low: f.local("v128", i8x16.shuffle(low, high, lanes(0, 2, 4, 6))),
    high: f.local("v128", i8x16.shuffle(low, high, lanes(1, 3, 5, 7))),
  };
}

function lanes(...from: readonly number[]): number[] {
  return from.flatMap((l) => [4 * l, 4 * l + 1, 4 * l + 2, 4 * l + 3]);
}

/** Lane j of vector i becomes lane i of vector j. */
function transpose(f: Func, rows: readonly Local<"v128">[]): readonly Local<"v128">[] {
  const [a, b, c, d] = rows as [Local<"v128">, Local<"v128">, Local<"v128">, Local<"v128">];
  const pair = (x: Expr<"v128">, y: Expr<"v128">, ...from: number[]) =>
    f.local("v128", i8x16.shuffle(x, y, lanes(...from)));
  const ab0 = pair(a, b, 0, 4, 1, 5), ab1 = pair(a, b, 2, 6, 3, 7);
  const cd0 = pair(c, d, 0, 4, 1, 5), cd1 = pair(c, d, 2, 6, 3, 7);
  return [
    pair(ab0, cd0, 0, 1, 4, 5),
    pair(ab0, cd0, 2, 3, 6, 7),
    pair(ab1, cd1, 0, 1, 4, 5),
    pair(ab1, cd1, 2, 3, 6, 7),
  ];
}
