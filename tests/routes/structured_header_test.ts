import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { ApiError } from "../../routes/errors.ts";
import { parseNamedParams } from "../../routes/structured_header.ts";

const parse = (text: string) => parseNamedParams(new Headers({ "x-a": text }), "x-a", 4096);

Deno.test("parseNamedParams() reads a token with parameters", () => {
  assertEquals(parseNamedParams(new Headers(), "x-a", 10), undefined);
  assertEquals(parse("beam"), { name: "beam", params: {} });
  assertEquals(parse('a-b.c;x=1;y=-0.5;z;q="t";t=tok;b=?0'), {
    name: "a-b.c",
    params: { x: 1, y: -0.5, z: true, q: "t", t: "tok", b: false },
  });
  assertEquals(parse("a;x=1;x=2")!.params, { x: 2 });
});

Deno.test("parseNamedParams() never throws anything but an ApiError naming the header", () => {
  const text = fc.string({ unit: fc.constantFrom(..."ab1;=\"?:,()@*- %'/") });
  fc.assert(
    fc.property(text, (value) => {
      try {
        parse(value);
      } catch (error) {
        assertEquals(error instanceof ApiError && error.param, "x-a");
      }
    }),
    { numRuns: 1000 },
  );
});

Deno.test("parseNamedParams() refuses what is longer than allowed", () => {
  assertThrows(
    () => parseNamedParams(new Headers({ "x-a": "abcd" }), "x-a", 3),
    ApiError,
    "3 bytes",
  );
});
