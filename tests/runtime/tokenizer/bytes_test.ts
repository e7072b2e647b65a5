import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { fromUtf8, settledLength, toUtf8, utf8Length } from "../../../runtime/tokenizer/bytes.ts";

Deno.test("toUtf8() and utf8Length() agree with the platform", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      const expected = new TextEncoder().encode(text);
      assertEquals(toUtf8(text), expected);
      assertEquals(utf8Length(text), expected.length);
      assertEquals(fromUtf8(expected), text);
    }),
    { numRuns: 500, seed: 6 },
  );
});

Deno.test("settledLength() agrees with what the platform's streaming decoder gives out", () => {
  const byte = fc.oneof(
    fc.nat(255),
    fc.constantFrom(0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1, 0xc2, 0xdf, 0xe0, 0xed, 0xef),
    fc.constantFrom(0xf0, 0xf4, 0xf5),
  );
  fc.assert(
    fc.property(fc.array(byte, { maxLength: 8 }), (list) => {
      const bytes = Uint8Array.from(list);
      const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
      const given = decoder.decode(bytes, { stream: true });
      assertEquals(fromUtf8(bytes.subarray(0, settledLength(bytes))), given);
    }),
    { numRuns: 20_000, seed: 7 },
  );
});
