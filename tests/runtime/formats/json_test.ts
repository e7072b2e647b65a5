import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { FormatError } from "../../../runtime/errors.ts";
import { type Json, type JsonOptions, parseJson } from "../../../runtime/formats/json.ts";

const options: JsonOptions = { source: "x.json", maxDepth: 64 };

/** Maps to plain objects without prototype, to compare with JSON.parse. */
function plain(value: Json): unknown {
  if (value instanceof Map) {
    return Object.fromEntries([...value].map(([key, item]) => [key, plain(item)]));
  }
  return Array.isArray(value) ? value.map(plain) : value;
}

Deno.test("parseJson() agrees with JSON.parse on random JSON texts", () => {
  // -0 becomes 0 in a JSON text, so both sides see the same text.
  fc.assert(
    fc.property(fc.json({ maxDepth: 5 }), fc.boolean(), (text, spaced) => {
      const written = spaced ? JSON.stringify(JSON.parse(text), null, "\t\n \r") : text;
      assertEquals(plain(parseJson(written, options)), JSON.parse(written));
    }),
    { numRuns: 1000, seed: 5 },
  );
});

Deno.test("parseJson() accepts and refuses the same damaged texts as JSON.parse", () => {
  const valid = `{"a\\u00e9\\n":[1,-2.5e+3,0,true,false,null,"x\\\\"],"b":{}}`;
  const marks = fc.constantFrom(...'{}[]",:\\0-.eEtfn \t\n\u0001é');
  fc.assert(
    fc.property(fc.nat(valid.length), fc.nat(2), marks, (at, remove, mark) => {
      const text = valid.slice(0, at) + mark + valid.slice(at + remove);
      const expected = attempt(() => JSON.parse(text));
      const found = attempt(() => plain(parseJson(text, options)));
      assertEquals(found, expected, text);
    }),
    { numRuns: 5000, seed: 6 },
  );
});

function attempt(read: () => unknown): unknown {
  try {
    return { value: read() };
  } catch (error) {
    assert(error instanceof SyntaxError, String(error));
    return "refused";
  }
}

Deno.test("parseJson() refuses duplicate keys, also when one is escaped", () => {
  for (const text of [`{"a":1,"a":1}`, `{"a":1,"\\u0061":1}`, `{"x":{"":0,"":0}}`]) {
    assertThrows(() => parseJson(text, options), FormatError, "duplicate key");
  }
});

Deno.test("parseJson() refuses nesting beyond the limit and nothing below it", () => {
  const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth);
  parseJson(nested(64), options);
  assertThrows(() => parseJson(nested(65), options), FormatError, "deeper than 64");
  assertThrows(() => parseJson("[".repeat(5_000_000), options), FormatError, "deeper than 64");
  parseJson(`[${"[],".repeat(100)}[]]`, { ...options, maxDepth: 2 });
});

Deno.test("parseJson() keeps keys of Object.prototype as ordinary keys", () => {
  const value = parseJson(`{"__proto__":1,"constructor":2}`, options);
  assert(value instanceof Map);
  assertEquals([...value], [["__proto__", 1], ["constructor", 2]]);
  assertEquals(value.get("toString"), undefined);
});

Deno.test("parseJson() says where the error is", () => {
  const error = assertThrows(
    () => parseJson(`{"a": nope}`, { ...options, baseOffset: 8 }),
    FormatError,
    "Cannot read x.json at offset 14: expected a JSON value",
  );
  assertEquals([error.source, error.offset], ["x.json", 14]);
});

Deno.test("parseJson() limits numbers as asked", () => {
  const whole = { ...options, numbers: "whole" } as const;
  for (const text of ["0", "7", "9007199254740991"]) {
    assertEquals(parseJson(text, whole), Number(text));
  }
  for (const text of ["-1", "1.0", "1e3", "-0", "9007199254740992", "1".repeat(400)]) {
    assertThrows(() => parseJson(text, whole), FormatError, "is not a whole number");
  }
  assertThrows(() => parseJson("1e400", options), FormatError, "too large");
  assertThrows(() => parseJson("01", options), FormatError);
});
