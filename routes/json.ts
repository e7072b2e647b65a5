/** JSON text -> value, with the checks that must come before anything recursive sees it. */
import { ApiError, invalidValue } from "./errors.ts";

/**
 * Deepest nesting of arrays and objects in a JSON text. Strings are skipped; the text need not be
 * valid JSON. Stops counting above `limit`.
 */
export function jsonDepth(text: string, limit: number): number {
  let depth = 0, deepest = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 0x22) {
      i = stringEnd(text, i);
    } else if (code === 0x5b || code === 0x7b) {
      if (++depth > deepest) deepest = depth;
      if (deepest > limit) return deepest;
    } else if (code === 0x5d || code === 0x7d) {
      depth--;
    }
  }
  return deepest;
}

/** Index of the quote that ends the string starting at `start`, or the text's length. */
function stringEnd(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let slashes = 0;
    while (text.charCodeAt(end - 1 - slashes) === 0x5c) slashes++;
    if (slashes % 2 === 0) return end;
  }
  return text.length;
}

/**
 * Parses a request body.
 *
 * `seed` is a 64-bit integer, which a JSON number cannot hold: where the top-level `seed` is written
 * with more digits than a double keeps, it becomes a bigint of exactly these digits.
 *
 * @throws {ApiError} 400 `invalid_json`; 400 `invalid_value` when nested deeper than `maxDepth`, not an
 * object, or with a key `__proto__`
 */
export function parseJsonObject(text: string, maxDepth: number): Record<string, unknown> {
  if (text.trim() === "") throw new ApiError(400, "invalid_json", "The request body is empty");
  if (jsonDepth(text, maxDepth) > maxDepth) {
    throw invalidValue(undefined, `The request body is nested deeper than ${maxDepth} levels`);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new ApiError(400, "invalid_json", `The request body is not JSON: ${place(cause)}`);
  }
  if (!isObject(value)) {
    throw invalidValue(undefined, "The request body must be a JSON object");
  }
  // Copies of objects drop such a key or take it for their prototype, so it would be lost in silence.
  if (/__proto__|\\u/.test(text) && hasPrototypeKey(value)) {
    throw invalidValue(undefined, 'The request body has a key "__proto__"');
  }
  const seed = value["seed"];
  if (typeof seed === "number" && !Number.isSafeInteger(seed)) {
    value["seed"] = exactSeed(text) ?? seed;
  }
  return value;
}

/** Nesting is limited by now. */
function hasPrototypeKey(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  return Object.hasOwn(value, "__proto__") || Object.values(value).some(hasPrototypeKey);
}

/** Whether the value is a JSON object. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Where the parser stopped. V8 quotes the text around it, which must not reach messages or logs. */
function place(error: unknown): string {
  const text = error instanceof Error ? error.message : "";
  const at = /at position (\d+)/.exec(text);
  if (at) return `error at position ${at[1]}`;
  return /end of JSON|Unterminated|unterminated/.test(text) ? "it ends too early" : "syntax error";
}

/** The digits of the last `seed` member of the outermost object. */
function exactSeed(text: string): bigint | undefined {
  const seeds: { holder: unknown; source: string }[] = [];
  const root: unknown = JSON.parse(text, function (this: unknown, key, value, context?: unknown) {
    if (key === "seed" && isObject(context) && typeof context["source"] === "string") {
      seeds.push({ holder: this, source: context["source"] });
    }
    return value;
  });
  const own = seeds.findLast((seed) => seed.holder === root);
  return own && /^-?\d+$/.test(own.source) ? BigInt(own.source) : undefined;
}
