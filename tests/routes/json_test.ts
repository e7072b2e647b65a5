import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { ApiError } from "../../routes/errors.ts";
import { jsonDepth, parseJsonObject } from "../../routes/json.ts";

/** Depth of a parsed value. */
function depthOf(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  return 1 + Math.max(0, ...Object.values(value).map(depthOf));
}

Deno.test("jsonDepth() equals the depth of the parsed value", () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.constantFrom(undefined, 2), (value, indent) => {
      assertEquals(jsonDepth(JSON.stringify(value, null, indent), 1000), depthOf(value));
    }),
    { numRuns: 500 },
  );
});

Deno.test("jsonDepth() does not count inside strings", () => {
  assertEquals(jsonDepth('{"a":"[[[{\\"[\\\\"}', 64), 1);
  assertEquals(jsonDepth('["\\\\\\"[", "["]', 64), 1);
  assertEquals(jsonDepth('"[[[', 64), 0);
  assertEquals(jsonDepth("[".repeat(100_000), 64), 65);
});

Deno.test("parseJsonObject() keeps the digits of the outermost seed only", () => {
  const parse = (text: string) => parseJsonObject(text, 64);
  assertEquals(parse('{"seed":9007199254740993}').seed, 9007199254740993n);
  assertEquals(parse('{"seed":-9223372036854775808}').seed, -9223372036854775808n);
  assertEquals(parse('{"seed":12}').seed, 12);
  assertEquals(parse('{"seed":1e20}').seed, 1e20);
  assertEquals(
    parse('{"a":{"seed":9007199254740995},"seed":9007199254740993}').seed,
    9007199254740993n,
  );
  const nested = parse('{"seed":9007199254740993,"a":{"seed":9007199254740995}}');
  assertEquals(nested, { seed: 9007199254740993n, a: { seed: 9007199254740996 } });
  assertEquals(parse('{"seed":1,"seed":9007199254740993}').seed, 9007199254740993n);
});

Deno.test("parseJsonObject() quotes nothing of the body in its message", () => {
  for (const text of ["secret", '{"a": secret}', '{"secret": 1', "[secret", '{"a":"secret\n"}']) {
    const { message } = assertThrows(() => parseJsonObject(text, 64), ApiError);
    assert(!message.includes("secret"), message);
  }
});

Deno.test("parseJsonObject() never throws anything but an ApiError", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json().map((text) => text.slice(1))), (text) => {
      try {
        parseJsonObject(text, 8);
      } catch (error) {
        assert(error instanceof ApiError);
        assertEquals(error.status, 400);
      }
    }),
    { numRuns: 1000 },
  );
});
