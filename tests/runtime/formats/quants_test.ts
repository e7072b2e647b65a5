import { assertEquals, assertThrows } from "@std/assert";
import { FormatError } from "../../../runtime/errors.ts";
import { bf16ToF32, f16ToF32 } from "../../../runtime/formats/floats.ts";
import { ggmlTypes } from "../../../runtime/formats/ggml_types.ts";
import { dequantize, readWeights, weightTypes } from "../../../runtime/formats/quants.ts";
import { bytesSource } from "../../../runtime/formats/reader.ts";
import golden from "../../golden/quants.json" with { type: "json" };

const fromHex = (hex: string): Uint8Array<ArrayBuffer> => Uint8Array.fromHex(hex);

/** Bit patterns, with every NaN written the same way. */
function bitsOf(values: Float32Array<ArrayBuffer>): Uint32Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length).slice();
  values.forEach((value, i) => {
    if (Number.isNaN(value)) bits[i] = 0x7fc00000;
  });
  return bits;
}

for (const [name, { blocks, values }] of Object.entries(golden.types)) {
  Deno.test(`dequantize() of ${name} equals the golden values bit for bit`, () => {
    const expected = new Uint32Array(fromHex(values).buffer);
    assertEquals(bitsOf(dequantize(name, fromHex(blocks), "test")), expected);
  });
}

Deno.test("dequantize() has a golden file for every supported type", () => {
  assertEquals(Object.keys(golden.types).sort(), [...weightTypes].sort());
});

Deno.test("dequantize() names the type it does not support", () => {
  const others = [...ggmlTypes.values()].filter((type) => !weightTypes.includes(type.name));
  for (const { name, bytes } of others) {
    assertThrows(() => dequantize(name, new Uint8Array(bytes), "x"), FormatError, name);
  }
});

Deno.test("dequantize() refuses a block that is cut off", () => {
  for (const name of weightTypes) {
    const type = [...ggmlTypes.values()].find((t) => t.name === name)!;
    for (let missing = 1; missing < type.bytes; missing++) {
      const bytes = new Uint8Array(2 * type.bytes - missing);
      assertThrows(() => dequantize(name, bytes, "x"), FormatError, "whole number");
    }
    assertEquals(dequantize(name, new Uint8Array(0), "x").length, 0);
  }
});

Deno.test("readWeights() over several chunks equals decoding at once", () => {
  // Chunks hold about a mebibyte, so 3 MiB of random Q6_K blocks span several.
  const blocks = Math.ceil(3 * 2 ** 20 / 210);
  const bytes = new Uint8Array(7 + blocks * 210);
  let state = 1;
  for (let i = 0; i < bytes.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    bytes[i] = state >>> 24;
  }
  const source = bytesSource(bytes, "x");
  const read = readWeights(source, { offset: 7, bytes: blocks * 210 }, "Q6_K");
  assertEquals(bitsOf(read), bitsOf(dequantize("Q6_K", bytes.subarray(7), "x")));
});

Deno.test("f16ToF32() agrees with the platform on all 65,536 bit patterns", () => {
  const halves = Uint16Array.from({ length: 65_536 }, (_, i) => i);
  const out = new Float32Array(halves.length);
  f16ToF32(new Uint8Array(halves.buffer), out);
  assertEquals(bitsOf(out), bitsOf(Float32Array.from(new Float16Array(halves.buffer))));
});

Deno.test("bf16ToF32() is the upper half of an f32 for all 65,536 bit patterns", () => {
  const halves = Uint16Array.from({ length: 65_536 }, (_, i) => i);
  const out = new Float32Array(halves.length);
  bf16ToF32(new Uint8Array(halves.buffer), out);
  assertEquals(new Uint32Array(out.buffer), Uint32Array.from(halves, (half) => half * 65_536));
});
