import { assert, assertEquals, assertThrows } from "@std/assert";
import { jsonSchemaConstraint } from "../../../../runtime/constraints/json/mod.ts";
import { FormatError } from "../../../../runtime/errors.ts";
import { testConstraint } from "../../../conformance/constraint.ts";
import { fakeVocab } from "../../../fakes/mod.ts";

/** All bytes, and longer tokens beside them. */
const withBytes = (...pieces: string[]) =>
  fakeVocab({
    pieces: [...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)), ...pieces],
  });

function parses(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

testConstraint("jsonSchemaConstraint, an object", () => {
  const vocab = withBytes('{"', '":', '", "', '"}', "name", "age", '{"name":"', "},");
  const schema = {
    type: "object",
    properties: {
      name: { type: "string", maxLength: 3 },
      age: { type: "integer", minimum: 0, maximum: 120 },
    },
    required: ["age"],
    additionalProperties: false,
  };
  return {
    vocab,
    constraint: jsonSchemaConstraint(schema, vocab, { allowsSpace: false }),
    accepts(text) {
      const value = parses(text);
      if (!isRecord(value) || /\s(?=[^"]*(?:"[^"]*"[^"]*)*$)/.test(text)) return false;
      const { name, age, ...rest } = value;
      return Object.keys(rest).length === 0 && Number.isInteger(age) && Number(age) >= 0 &&
        Number(age) <= 120 &&
        (name === undefined || (typeof name === "string" && [...name].length <= 3));
    },
    accepted: ['{"name":"Bob","age":7}', '{"age":120,"name":"\u20ac"}', '{"age":0}', '{"age":5.0}'],
    refused: [
      '{"name":"Bob"}',
      '{"age":121}',
      '{"age":1.5}',
      '{"age":1,"x":2}',
      "[]",
      '{"age":1',
      "",
    ],
    walkTokens: 25,
  };
});

testConstraint("jsonSchemaConstraint, alternatives", () => {
  const vocab = withBytes("true", "null", '["', '","', '"]', "[1", ",2", "]");
  const schema = {
    anyOf: [
      { type: "array", items: { enum: ["a", "b", "ab"] }, uniqueItems: true, minItems: 1 },
      { type: "array", items: { type: "integer", multipleOf: 2 }, maxItems: 2 },
      { const: null },
    ],
  };
  return {
    vocab,
    constraint: jsonSchemaConstraint(schema, vocab, { allowsSpace: false }),
    accepts(text) {
      const value = parses(text);
      if (value === null) return true;
      if (!Array.isArray(value)) return false;
      const isUnique = new Set(value).size === value.length;
      const isWords = value.length > 0 && isUnique &&
        value.every((v) => "a b ab".split(" ").includes(v));
      return isWords ||
        (value.length < 3 && value.every((v) => Number.isInteger(v) && v % 2 === 0));
    },
    accepted: ["null", '["a"]', '["ab","a","b"]', "[]", "[2]", "[-4,0]"],
    refused: ['["a","a"]', '["c"]', "[1]", "[2,4,6]", "true", '[2,"a"]'],
  };
});

testConstraint("jsonSchemaConstraint, an open object with names that matter", () => {
  const vocab = withBytes(
    ...['{"', '":', '":1', '":"', '","', '"}', 'a":1', 'a\\"b', 'a\\"b":', "é", 'é":"', '1,"'],
    ...['a":1,"a":', 'x":1,"x":1', '"a":1,"é":1}', "~", '~":'],
  );
  const names = { a: { type: "integer" }, 'a"b': { type: "boolean" }, "é": { type: "string" } };
  return {
    vocab,
    constraint: jsonSchemaConstraint({ type: "object", properties: names }, vocab, {
      allowsSpace: false,
    }),
    accepts(text) {
      const value = parses(text);
      if (!isRecord(value)) return false;
      const is = (name: string, type: string) =>
        !Object.hasOwn(value, name) || typeof value[name] === type;
      const whole = !Object.hasOwn(value, "a") || Number.isInteger(value.a);
      return whole && is('a"b', "boolean") && is("é", "string");
    },
    accepted: ['{"a":1,"é":"x"}', '{"a\\"b":true,"aé":[]}', '{"x":1}', '{"~":{}}'],
    refused: ['{"a":"1"}', '{"a\\"b":1}', '{"é":1}', "{"],
    walkTokens: 14,
  };
});

testConstraint("jsonSchemaConstraint, anything", () => {
  const vocab = fakeVocab();
  return {
    vocab,
    constraint: jsonSchemaConstraint({}, vocab),
    accepts: (text) => parses(text) !== undefined,
    accepted: ["1", '" \\u00e9\\ud83d\\ude00"', '{"a": [true, null, {}]}', " [\n  -1.5e-3\n]"],
    refused: ["", "{", '{"a":1,"a":2}x', "[1,]", "01", "+1", "nul", '"\n"', "'a'"],
    walkTokens: 12,
  };
});

Deno.test("jsonSchemaConstraint refuses what it cannot enforce, with the place", () => {
  const vocab = fakeVocab();
  const refused: [unknown, string][] = [
    [{ properties: { a: { $dynamicRef: "#x" } } }, "/properties/a"],
    [{ $ref: "https://example.com/other.json" }, "leads outside"],
    [{ items: { pattern: "(?=x)" } }, "/items"],
    [{ type: "strin" }, '"type"'],
    [{ allOf: [{ $ref: "#" }] }, "without end"],
    [{ type: "string", enum: [1] }, "contradicts"],
    [{ allOf: [{ type: "string" }, { type: "number" }] }, "contradicts"],
    [{ type: "integer", minimum: 5, maximum: 3 }, "contradicts"],
    [{ type: "number", exclusiveMinimum: 1, maximum: 1 }, "contradicts"],
    [{ type: "string", minLength: 3, maxLength: 2 }, "contradicts"],
    [{ type: "array", minItems: 2, maxItems: 1 }, "contradicts"],
    [{ type: "object", minProperties: 2, maxProperties: 1 }, "contradicts"],
  ];
  for (const [schema, text] of refused) {
    const error = assertThrows(() => jsonSchemaConstraint(schema, vocab), FormatError);
    assert(error.message.includes(text), error.message);
  }
});

Deno.test("jsonSchemaConstraint refuses hostile schemas with a typed error", () => {
  const vocab = fakeVocab();
  const nested = (levels: number, wrap: (inner: unknown) => unknown) => {
    let schema: unknown = {};
    for (let i = 0; i < levels; i++) schema = wrap(schema);
    return schema;
  };
  const named = (count: number, value: unknown) =>
    Object.fromEntries(Array.from({ length: count }, (_, i) => [`p${i}`, structuredClone(value)]));
  const hostile = [
    nested(33, (inner) => ({ items: inner })),
    nested(5000, (inner) => ({ not: inner })),
    nested(5000, (inner) => ({ const: [inner] })),
    { properties: named(1001, true) },
    { enum: Array.from({ length: 1001 }, (_, i) => i) },
    { description: "x".repeat(65_536) },
    {
      properties: named(1000, { $ref: "#/$defs/a" }),
      items: { $ref: "#/$defs/a" },
      $defs: { a: true },
    },
    { pattern: "a".repeat(4097) },
    { pattern: "((a{1000}){1000}){1000}" },
    { pattern: `${"(".repeat(200)}a${")".repeat(200)}` },
    { allOf: Array.from({ length: 90 }, (_, i) => ({ pattern: `x{${900 + i}}` })) },
  ];
  for (const schema of hostile) {
    const error = assertThrows(() => jsonSchemaConstraint(schema, vocab), Error);
    assertEquals(error.name, "ConstraintTooComplexError", JSON.stringify(schema).slice(0, 80));
  }
});

Deno.test("jsonSchemaConstraint follows schemas that would explode if they were expanded", () => {
  const vocab = fakeVocab();
  const twice = (i: number) => [{ $ref: `#/$defs/d${i}` }, { $ref: `#/$defs/d${i}` }];
  const levels = Array.from({ length: 31 }, (_, i) => [
    `d${i}`,
    i === 30 ? { type: "string", maxLength: 1 } : { anyOf: twice(i + 1) },
  ]);
  const schema = { $ref: "#/$defs/d0", $defs: Object.fromEntries(levels) };
  const constraint = jsonSchemaConstraint(schema, vocab);
  let state = constraint.start();
  for (const token of vocab.encode('"x"')) state = constraint.advance(state, token)!;
  assert(constraint.accepting(state));
});

Deno.test("jsonSchemaConstraint gives the tokens that must follow", () => {
  const vocab = fakeVocab();
  const constraint = jsonSchemaConstraint({ const: { ok: true } }, vocab, { allowsSpace: false });
  assertEquals(vocab.decode(constraint.forced(constraint.start())), '{"ok":true}');
});
