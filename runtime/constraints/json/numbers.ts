/** What the beginning of a number can still become. */
import { atScale, compareDecimals, type Decimal, decimalOf, isMultiple } from "./decimal.ts";
import type { NumberRule } from "./program.ts";
import { fail, open, pass, type Verdict } from "./verdict.ts";

/** Digits a number may have before the point, behind it, and in its exponent. */
export const digitLimits = { whole: 24, fraction: 24, exponent: 2 } as const;

/**
 * Digits of a number that a schema looks at. A reader of JSON keeps 15 exactly; bounds of integers
 * that are inclusive hold after rounding too, so those may have the digits of 64 bits.
 */
export function digitsFor(rules: readonly NumberRule[]): number {
  if (rules.every(isPlainInteger)) return 19;
  const values = rules.flatMap((rule) => rule.values ?? []);
  return Math.max(exactDigits, ...values.map(({ digits }) => digits.toString().length));
}

const exactDigits = 15;

function isPlainInteger(rule: NumberRule): boolean {
  const { multiples: [multiple, other], minIsExclusive, maxIsExclusive, values } = rule;
  const isOne = multiple?.digits === 1n && multiple.scale === 0 && !other;
  return isOne && !minIsExclusive && !maxIsExclusive && !values;
}

/** Whether so many digits are too many. */
export function hasTooManyDigits(text: string, digits: number): boolean {
  // A point needs a digit behind it.
  const count = text.replace(/[-.]/g, "").length + (text.endsWith(".") ? 1 : 0);
  return count > (text.includes(".") ? exactDigits : digits);
}

/** A rule that is satisfied where all of these are. */
export function joinRules(rules: readonly NumberRule[]): NumberRule {
  return rules.reduce((a, b) => {
    const [min, minIsExclusive] = tighter([a.min, a.minIsExclusive], [b.min, b.minIsExclusive], 1);
    const [max, maxIsExclusive] = tighter([a.max, a.maxIsExclusive], [b.max, b.maxIsExclusive], -1);
    return {
      min,
      minIsExclusive,
      max,
      maxIsExclusive,
      multiples: [...a.multiples, ...b.multiples],
      values: a.values && b.values
        ? a.values.filter((v) => b.values!.some((w) => compareDecimals(v, w) === 0))
        : a.values ?? b.values,
      hasNoPoint: a.hasNoPoint || b.hasNoPoint,
    };
  });
}

type Bound = readonly [value: Decimal | undefined, isExclusive: boolean];

function tighter(a: Bound, b: Bound, sign: 1 | -1): Bound {
  if (!a[0] || !b[0]) return a[0] ? a : b;
  const order = sign * compareDecimals(a[0], b[0]);
  return order === 0 ? [a[0], a[1] || b[1]] : order > 0 ? a : b;
}

/** Whether a number satisfies a rule. */
export function satisfies(value: Decimal, rule: NumberRule): boolean {
  if (!isWithin(value, rule)) return false;
  if (rule.values && !rule.values.some((v) => compareDecimals(v, value) === 0)) return false;
  return rule.multiples.every((divisor) => isMultiple(value, divisor));
}

function isWithin(value: Decimal, rule: NumberRule): boolean {
  const { min, max } = rule;
  if (min !== undefined) {
    const order = compareDecimals(value, min);
    if (order < 0 || (order === 0 && rule.minIsExclusive)) return false;
  }
  if (max !== undefined) {
    const order = compareDecimals(value, max);
    if (order > 0 || (order === 0 && rule.maxIsExclusive)) return false;
  }
  return true;
}

/**
 * What a rule says about every number of at most `digits` digits that begins with `text` and has no
 * exponent: `fail` if none satisfies it, `pass` if all do as far as bounds tell, else `open`.
 */
export function judgeBeginning(text: string, rule: NumberRule, digits: number): Verdict {
  const hasPoint = text.includes(".");
  if (rule.hasNoPoint && hasPoint) return fail;
  // Most rules ask for an integer and no more.
  if (isIntegerRule(rule)) return !hasPoint || /\.0*$/.test(text) ? open : fail;
  const isNegative = text.startsWith("-");
  const [whole = "", fraction] = (isNegative ? text.slice(1) : text).split(".");
  if (whole.length + (fraction?.length ?? 0) >= (hasPoint ? exactDigits : digits)) {
    return satisfies(decimalOf(text), rule) ? pass : fail;
  }
  let canPass = false;
  let canFail = rule.values !== undefined || rule.multiples.length > 0;
  for (const range of ranges(whole, fraction, digits)) {
    const signed = isNegative ? mirror(range) : range;
    if (!canPass && holdsSome(signed, rule)) canPass = true;
    if (!canFail && !holdsAll(signed, rule)) canFail = true;
    if (canPass && canFail) return open;
  }
  return canPass ? canFail ? open : pass : fail;
}

function isIntegerRule({ min, max, multiples: [multiple, other], values }: NumberRule): boolean {
  const isOne = multiple?.digits === 1n && multiple.scale === 0;
  return isOne && !other && !min && !max && !values;
}

/** Numbers from `lo` to `hi`, at a common scale; the far end from zero is not included. */
interface Range {
  readonly lo: bigint;
  readonly hi: bigint;
  readonly scale: number;
  readonly isNegative: boolean;
}

function* ranges(
  whole: string,
  fraction: string | undefined,
  digits: number,
): Generator<Range> {
  if (whole === "") {
    return yield { lo: 0n, hi: 10n ** BigInt(digits), scale: 0, isNegative: false };
  }
  if (fraction !== undefined) {
    const lo = BigInt(whole + fraction);
    return yield { lo, hi: lo + 1n, scale: fraction.length, isNegative: false };
  }
  const lo = BigInt(whole);
  const more = whole === "0" ? 0 : digits - whole.length;
  for (let power = 1n, i = 0; i <= more; i++, power *= 10n) {
    yield { lo: lo * power, hi: (lo + 1n) * power, scale: 0, isNegative: false };
  }
}

function mirror({ lo, hi, scale }: Range): Range {
  return { lo: -hi, hi: -lo, scale, isNegative: true };
}

function holdsAll({ lo, hi, scale }: Range, rule: NumberRule): boolean {
  return isWithin({ digits: lo, scale }, rule) && isWithin({ digits: hi, scale }, rule);
}

/** Whether some number of the range satisfies the rule. */
function holdsSome(range: Range, rule: NumberRule): boolean {
  const { isNegative, scale } = range;
  const near = { digits: isNegative ? range.hi : range.lo, scale };
  if (satisfies(near, rule)) return true;
  const far = { digits: isNegative ? range.lo : range.hi, scale };
  const isInside = (value: Decimal) =>
    isNegative
      ? compareDecimals(far, value) < 0 && compareDecimals(value, near) <= 0
      : compareDecimals(near, value) <= 0 && compareDecimals(value, far) < 0;
  if (rule.values) return rule.values.some((v) => isInside(v) && satisfies(v, rule));
  return holdsMultiple(range, rule);
}

/** The part of the range within the bounds, and whether a multiple of all divisors is in it. */
function holdsMultiple(range: Range, rule: NumberRule): boolean {
  const divisors = rule.multiples;
  const limits = [rule.min, rule.max].filter((limit) => limit !== undefined);
  const scale = Math.max(range.scale, ...[...divisors, ...limits].map((d) => d.scale)) + 1;
  const at = (value: Decimal) => atScale(value, scale);
  const step = divisors.length === 0 ? 1n : divisors.map(at).reduce(leastCommonMultiple);
  let lo = at({ digits: range.lo, scale: range.scale }) + (range.isNegative ? 1n : 0n);
  let hi = at({ digits: range.hi, scale: range.scale }) - (range.isNegative ? 0n : 1n);
  if (rule.min) lo = larger(lo, at(rule.min) + (rule.minIsExclusive ? 1n : 0n));
  if (rule.max) hi = -larger(-hi, -(at(rule.max) - (rule.maxIsExclusive ? 1n : 0n)));
  return floorDivide(hi, step) * step >= lo;
}

function larger(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

function floorDivide(a: bigint, b: bigint): bigint {
  const quotient = a / b;
  return a % b !== 0n && a < 0n ? quotient - 1n : quotient;
}

function leastCommonMultiple(a: bigint, b: bigint): bigint {
  let [x, y] = [a, b];
  while (y !== 0n) [x, y] = [y, x % y];
  return a / x * b;
}

/** The verdict on a finished number. */
export function judgeNumber(text: string, rule: NumberRule): Verdict {
  if (rule.hasNoPoint && text.includes(".")) return fail;
  return satisfies(decimalOf(text), rule) ? pass : fail;
}
