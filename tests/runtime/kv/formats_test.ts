import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  decodeVector,
  decodeVectors,
  encodeVector,
  slotsPerPage,
  vectorBytes,
} from "../../../runtime/kv/formats.ts";

function memory(bytes: number) {
  const floats = new Float32Array(bytes / 4);
  return { floats, bytes: new Uint8Array(floats.buffer) };
}

Deno.test("vectorBytes() and slotsPerPage() are those of the formats' description", () => {
  assertEquals([32, 64, 128].map((d) => vectorBytes("int8", d)), [36, 68, 132]);
  assertEquals([32, 64, 128].map((d) => vectorBytes("int4", d)), [20, 40, 80]); // 5 bits a number
  const layout = { layers: 1, kvHeads: 1, headDim: 32, pageSize: 16 };
  assertEquals(["f32", "int8", "int4"].map((f) => slotsPerPage(layout, f as "f32")), [16, 56, 102]);
});

for (const [format, levels] of [["int8", 254], ["int4", 15]] as const) {
  Deno.test(`${format} keeps every number within half a step`, () => {
    const values = fc.array(fc.float({ min: -100, max: 100, noNaN: true }), {
      minLength: 1,
      maxLength: 70,
    });
    fc.assert(fc.property(values, (list) => {
      const from = Float32Array.from(list), size = list.length;
      const stored = memory(vectorBytes(format, size)), out = new Float32Array(size + 1);
      encodeVector(format, from, 0, size, stored, 0);
      decodeVector(format, stored, 0, size, out, 1);
      const most = Math.max(...list), least = Math.min(...list);
      const range = format === "int8" ? 2 * Math.max(most, -least) : most - least;
      // int4 rounds scale and minimum to f16, whose least number is 2^-24.
      const slack = format === "int8" ? 1e-5 : 2 ** -10 * (range + Math.abs(least)) + 16 * 2 ** -24;
      const bound = range / levels / 2 * (1 + 1e-6) + slack + 1e-7;
      from.forEach((value, i) => assert(Math.abs(out[i + 1]! - value) <= bound));
    }));
  });

  Deno.test(`${format} keeps a constant vector and zeros`, () => {
    for (const value of [0, 1, -2]) {
      const stored = memory(vectorBytes(format, 8)), out = new Float32Array(8);
      encodeVector(format, new Float32Array(8).fill(value), 0, 8, stored, 0);
      decodeVector(format, stored, 0, 8, out, 0);
      for (const one of out) assert(Math.abs(one - value) < 1e-6);
    }
  });

  Deno.test(`decodeVectors() of ${format} is decodeVector() of each`, () => {
    const size = 10, step = vectorBytes(format, size), stored = memory(3 * step + 4);
    for (let i = 0; i < 3; i++) {
      const vector = Float32Array.from({ length: size }, (_, d) => Math.sin(7 * i + d));
      encodeVector(format, vector, 0, size, stored, 4 + i * step);
    }
    const together = new Float32Array(40), each = new Float32Array(40);
    decodeVectors(format, stored, 4, 3, size, together, 1, 12);
    for (let i = 0; i < 3; i++) decodeVector(format, stored, 4 + i * step, size, each, 1 + 12 * i);
    assertEquals(together, each);
  });
}
