/**
 * The part of `@std/assert` the tests use, over `node:assert/strict`.
 *
 * deno.json maps "@std/assert" to this file; where the JSR registry can be reached, mapping it to
 * `jsr:@std/assert@1` instead is the only change needed.
 */
import assertStrict from "node:assert/strict";

export { AssertionError } from "node:assert";

/** Fails unless `condition` is truthy. */
export function assert(condition: unknown, message = "expected a truthy value"): asserts condition {
  assertStrict.ok(condition, message);
}

/** Fails if `condition` is truthy. */
export function assertFalse(condition: unknown, message = "expected a falsy value"): void {
  assertStrict.ok(!condition, message);
}

/** Deep, strict equality. */
export function assertEquals<T>(actual: T, expected: T, message?: string): void {
  assertStrict.deepStrictEqual(actual, expected, message);
}

/** Deep, strict inequality. */
export function assertNotEquals<T>(actual: T, expected: T, message?: string): void {
  assertStrict.notDeepStrictEqual(actual, expected, message);
}

/** Same value by `Object.is`. */
export function assertStrictEquals<T>(actual: unknown, expected: T, message?: string): void {
  assertStrict.strictEqual(actual, expected, message);
}

/** Fails on null and undefined. */
export function assertExists<T>(actual: T, message?: string): asserts actual is NonNullable<T> {
  assertStrict.ok(actual !== null && actual !== undefined, message ?? "expected a value");
}

/** |actual - expected| <= tolerance. @default tolerance 1e-7 */
export function assertAlmostEquals(
  actual: number,
  expected: number,
  tolerance = 1e-7,
  message?: string,
): void {
  if (Object.is(actual, expected)) return;
  const delta = Math.abs(actual - expected);
  assertStrict.ok(
    delta <= tolerance,
    message ?? `expected ${actual} within ${tolerance} of ${expected}, off by ${delta}`,
  );
}

/** The string contains the part. */
export function assertStringIncludes(actual: string, expected: string, message?: string): void {
  assertStrict.ok(
    actual.includes(expected),
    message ?? `expected ${JSON.stringify(actual)} to contain ${JSON.stringify(expected)}`,
  );
}

/** The string matches the pattern. */
export function assertMatch(actual: string, expected: RegExp, message?: string): void {
  assertStrict.match(actual, expected, message);
}

/** Every expected item is in `actual` by deep equality. */
export function assertArrayIncludes<T>(actual: readonly T[], expected: readonly T[]): void {
  for (const item of expected) {
    assertStrict.ok(
      actual.some((x) => isDeepEqual(x, item)),
      `expected ${JSON.stringify(actual)} to include ${JSON.stringify(item)}`,
    );
  }
}

function isDeepEqual(a: unknown, b: unknown): boolean {
  try {
    assertStrict.deepStrictEqual(a, b);
    return true;
  } catch {
    return false;
  }
}

/** `actual` is an instance of `type`. */
export function assertInstanceOf<T>(
  actual: unknown,
  // deno-lint-ignore no-explicit-any
  type: abstract new (...args: any[]) => T,
  message?: string,
): asserts actual is T {
  assertStrict.ok(actual instanceof type, message ?? `expected an instance of ${type.name}`);
}

// deno-lint-ignore no-explicit-any
type ErrorClass<E> = abstract new (...args: any[]) => E;

/** The error thrown by `fn`, of class `type` and with `includes` in its message. */
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  type?: ErrorClass<E>,
  includes = "",
): E {
  let result: unknown;
  try {
    result = fn();
  } catch (error) {
    return checkError(error, type, includes);
  }
  throw new assertStrict.AssertionError({ message: `expected a throw, got ${String(result)}` });
}

/** The error `fn` rejects with, of class `type` and with `includes` in its message. */
export async function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  type?: ErrorClass<E>,
  includes = "",
): Promise<E> {
  let result: unknown;
  try {
    result = await fn();
  } catch (error) {
    return checkError(error, type, includes);
  }
  throw new assertStrict.AssertionError({ message: `expected a rejection, got ${String(result)}` });
}

function checkError<E extends Error>(
  error: unknown,
  type: ErrorClass<E> | undefined,
  part: string,
): E {
  if (type) assertInstanceOf(error, type, `expected ${type.name}, got ${String(error)}`);
  assertStringIncludes((error as E).message, part);
  return error as E;
}

/** Always fails. */
export function fail(message = "failed"): never {
  throw new assertStrict.AssertionError({ message });
}
