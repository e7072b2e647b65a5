/**
 * Typed expressions: each constructor below is one instruction, named as in the specification
 * (`i32x4.extadd_pairwise_i16x8_s` is `i32x4.extaddPairwiseI16x8S`), and takes its operands in order.
 * An expression is the code that leaves its value on the stack; nothing is evaluated here.
 *
 * Source of the numbers: WebAssembly core specification 3.0, appendix "index of instructions",
 * https://webassembly.github.io/spec/core/appendix/index-instructions.html.
 */
import { double, signed, single, unsigned } from "./bytes.ts";

/** Types of values, as many as the kernels use. */
export type ValueType = "i32" | "f32" | "f64" | "v128";

/** Code that leaves one value of a type. */
export interface Expr<T extends ValueType> {
  readonly type: T;
  readonly code: readonly number[];
}

type Operand<T extends ValueType> = Expr<T>;

function unary<A extends ValueType, R extends ValueType>(_a: A, type: R, ...op: number[]) {
  return (a: Operand<A>): Expr<R> => ({ type, code: [...a.code, ...op] });
}

function binary<A extends ValueType, B extends ValueType, R extends ValueType>(
  _a: A,
  _b: B,
  type: R,
  ...op: number[]
) {
  return (a: Operand<A>, b: Operand<B>): Expr<R> => ({ type, code: [...a.code, ...b.code, ...op] });
}

/** Reads memory at `address + offset`; no alignment is assumed. */
function load<R extends ValueType>(type: R, ...op: number[]) {
  return (address: Operand<"i32">, offset = 0): Expr<R> => ({
    type,
    code: [...address.code, ...op, 0, ...unsigned(offset)],
  });
}

const simd = (op: number): number[] => [0xfd, ...unsigned(op)];
const vector1 = (op: number) => unary("v128", "v128", ...simd(op));
const vector2 = (op: number) => binary("v128", "v128", "v128", ...simd(op));
const shift = (op: number) => binary("v128", "i32", "v128", ...simd(op));
const lane = <R extends ValueType>(type: R, op: number) => (a: Expr<"v128">, index: number) => ({
  type,
  code: [...a.code, ...simd(op), index],
});
const integer2 = (op: number) => binary("i32", "i32", "i32", op);

export const i32 = {
  const: (value: number): Expr<"i32"> => ({ type: "i32", code: [0x41, ...signed(value)] }),
  load: load("i32", 0x28),
  load8S: load("i32", 0x2c),
  load16U: load("i32", 0x2f),
  eqz: unary("i32", "i32", 0x45),
  eq: integer2(0x46),
  ltU: integer2(0x49),
  gtU: integer2(0x4b),
  leU: integer2(0x4d),
  geU: integer2(0x4f),
  add: integer2(0x6a),
  sub: integer2(0x6b),
  mul: integer2(0x6c),
  divU: integer2(0x6e),
  and: integer2(0x71),
  or: integer2(0x72),
  shl: integer2(0x74),
  shrU: integer2(0x76),
};

export const f32 = {
  const: (value: number): Expr<"f32"> => ({ type: "f32", code: [0x43, ...single(value)] }),
  load: load("f32", 0x2a),
  eq: binary("f32", "f32", "i32", 0x5b),
  gt: binary("f32", "f32", "i32", 0x5e),
  ge: binary("f32", "f32", "i32", 0x60),
  sqrt: unary("f32", "f32", 0x91),
  add: binary("f32", "f32", "f32", 0x92),
  sub: binary("f32", "f32", "f32", 0x93),
  mul: binary("f32", "f32", "f32", 0x94),
  div: binary("f32", "f32", "f32", 0x95),
  max: binary("f32", "f32", "f32", 0x97),
  convertI32S: unary("i32", "f32", 0xb2),
  demoteF64: unary("f64", "f32", 0xb6),
};

export const f64 = {
  const: (value: number): Expr<"f64"> => ({ type: "f64", code: [0x44, ...double(value)] }),
  load: load("f64", 0x2b),
  sqrt: unary("f64", "f64", 0x9f),
  add: binary("f64", "f64", "f64", 0xa0),
  sub: binary("f64", "f64", "f64", 0xa1),
  mul: binary("f64", "f64", "f64", 0xa2),
  div: binary("f64", "f64", "f64", 0xa3),
  convertI32U: unary("i32", "f64", 0xb8),
  promoteF32: unary("f32", "f64", 0xbb),
};

export const v128 = {
  /** Four f32 lanes that are all 0. */
  zero: { type: "v128", code: [...simd(0x0c), ...new Array<number>(16).fill(0)] } as Expr<"v128">,
  /** A vector of 16 given bytes. */
  bytes: (values: readonly number[]): Expr<"v128"> => ({
    type: "v128",
    code: [...simd(0x0c), ...values],
  }),
  load: load("v128", ...simd(0x00)),
  /** Eight bytes as eight i16 lanes. */
  load8x8S: load("v128", ...simd(0x01)),
  /** Four i16 as four i32 lanes. */
  load16x4S: load("v128", ...simd(0x03)),
  load32Splat: load("v128", ...simd(0x09)),
  load64Splat: load("v128", ...simd(0x0a)),
  not: vector1(0x4d),
  and: vector2(0x4e),
  /** a and not b */
  andnot: vector2(0x4f),
  or: vector2(0x50),
  xor: vector2(0x51),
  anyTrue: unary("v128", "i32", ...simd(0x53)),
  /** Bits of a where mask is 1, of b where it is 0. */
  bitselect: (a: Expr<"v128">, b: Expr<"v128">, mask: Expr<"v128">): Expr<"v128"> => ({
    type: "v128",
    code: [...a.code, ...b.code, ...mask.code, ...simd(0x52)],
  }),
};

export const i8x16 = {
  /** Bytes by number: 0 to 15 from a, 16 to 31 from b. */
  shuffle: (a: Expr<"v128">, b: Expr<"v128">, bytes: readonly number[]): Expr<"v128"> => ({
    type: "v128",
    code: [...a.code, ...b.code, ...simd(0x0d), ...bytes],
  }),
  splat: unary("i32", "v128", ...simd(0x0f)),
  narrowI16x8S: vector2(0x65),
  add: vector2(0x6e),
  sub: vector2(0x71),
};

export const i16x8 = {
  narrowI32x4S: vector2(0x85),
  extendLowI8x16S: vector1(0x87),
  extendHighI8x16S: vector1(0x88),
  shrU: shift(0x8d),
  add: vector2(0x8e),
  /**
   * a . b over pairs of bytes. Has one defined result as long as every byte of b is in 0 .. 127
   * (relaxed SIMD, i16x8.relaxed_dot_i8x16_i7x16_s).
   */
  relaxedDot: vector2(0x112),
};

export const i32x4 = {
  splat: unary("i32", "v128", ...simd(0x11)),
  extractLane: lane("i32", 0x1b),
  extaddPairwiseI16x8S: vector1(0x7e),
  extendLowI16x8S: vector1(0xa7),
  extendHighI16x8S: vector1(0xa8),
  /** The highest bit of every lane, lane 0's first. */
  bitmask: unary("v128", "i32", ...simd(0xa4)),
  shl: shift(0xab),
  shrS: shift(0xac),
  shrU: shift(0xad),
  eq: vector2(0x37),
  leS: vector2(0x3d),
  geS: vector2(0x3f),
  mul: vector2(0xb5),
  add: vector2(0xae),
  sub: vector2(0xb1),
  /** a . b over pairs of i16, exact. */
  dotI16x8S: vector2(0xba),
  truncSatF32x4S: vector1(0xf8),
  /** Two f64 as two i32; the other lanes are 0. */
  truncSatF64x2SZero: vector1(0xfc),
};

export const f32x4 = {
  splat: unary("f32", "v128", ...simd(0x13)),
  extractLane: lane("f32", 0x1f),
  lt: vector2(0x43),
  gt: vector2(0x44),
  nearest: vector1(0x6a),
  abs: vector1(0xe0),
  neg: vector1(0xe1),
  add: vector2(0xe4),
  sub: vector2(0xe5),
  mul: vector2(0xe6),
  div: vector2(0xe7),
  /** b < a ? b : a */
  pmin: vector2(0xea),
  /** a < b ? b : a */
  pmax: vector2(0xeb),
  convertI32x4S: vector1(0xfa),
  convertI32x4U: vector1(0xfb),
  eq: vector2(0x41),
  le: vector2(0x45),
  ge: vector2(0x46),
  /** The same number in all lanes. */
  const: (value: number): Expr<"v128"> => f32x4.splat(f32.const(value)),
};

export const f64x2 = {
  splat: unary("f64", "v128", ...simd(0x14)),
  extractLane: lane("f64", 0x21),
  promoteLowF32x4: vector1(0x5f),
  convertLowI32x4S: vector1(0xfe),
  lt: vector2(0x49),
  add: vector2(0xf0),
  sub: vector2(0xf1),
  mul: vector2(0xf2),
  div: vector2(0xf3),
  pmax: vector2(0xf7),
  /** The lane of `a` replaced by the f64 at `address`. */
  loadLane: (address: Expr<"i32">, a: Expr<"v128">, index: number): Expr<"v128"> => ({
    type: "v128",
    code: [...address.code, ...a.code, ...simd(0x57), 0, 0, index],
  }),
  /** The same number in both lanes. */
  const: (value: number): Expr<"v128"> => f64x2.splat(f64.const(value)),
};

export const i64x2 = {
  /** Products of lanes 0 and 1, and of lanes 2 and 3, in 64 bits. */
  extmulLowI32x4U: vector2(0xde),
  extmulHighI32x4U: vector2(0xdf),
};
