import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  copySlot,
  decodeVector,
  decodeVectors,
  encodeVector,
  loadSlots,
  slotsPerPage,
  storeGroup,
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
  const slots = (["f32", "int8", "int4", "kivi4"] as const).map((f) => slotsPerPage(layout, f));
  assertEquals(slots, [16, 56, 102, 96]);
  assertEquals(slotsPerPage({ ...layout, pageSize: 4 }, "kivi4"), 0); // no room for a group
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

interface Golden {
  readonly kivi4: Readonly<Record<string, string>>;
}

async function golden(): Promise<(name: string) => Uint8Array<ArrayBuffer>> {
  const url = new URL("../../golden/kv.json", import.meta.url);
  const { kivi4 }: Golden = JSON.parse(await Deno.readTextFile(url));
  return (name) => Uint8Array.from(atob(kivi4[name]!), (character) => character.charCodeAt(0));
}

const floatsOf = (bytes: Uint8Array<ArrayBuffer>) => new Float32Array(bytes.buffer);

Deno.test("kivi4 stores keys per channel and values per token as numpy does, to the bit", async () => {
  const of = await golden();
  for (const [kind, name, headDim] of [["keys", "key", 12], ["values", "value", 40]] as const) {
    const from = floatsOf(of(kind)), expected = of(`${name}Bytes`);
    const stored = memory(expected.length + 8); // written from byte 8 on
    for (const slot of [0, 32]) {
      const ats = Array.from({ length: 32 }, (_, i) => (slot + i) * headDim);
      storeGroup(kind, "kivi4", from, ats, headDim, stored, 8, slot);
    }
    assertEquals(stored.bytes.subarray(8), expected, kind);
    const out = new Float32Array(64 * headDim);
    loadSlots(kind, "kivi4", stored, 8, 0, 64, headDim, out, 0, headDim);
    const decoded = floatsOf(of(`decoded${kind === "keys" ? "Keys" : "Values"}`));
    assertEquals(out, decoded, kind);
    const one = new Float32Array(headDim);
    loadSlots(kind, "kivi4", stored, 8, 45, 1, headDim, one, 0, 0);
    assertEquals(one, decoded.slice(45 * headDim, 46 * headDim), kind);
  }
});

Deno.test("kivi4 errs by half a step of the key's own channel; int4 by a step of the largest one", async () => {
  const keys = floatsOf((await golden())("keys")), headDim = 12;
  const ats = Array.from({ length: 32 }, (_, i) => i * headDim);
  const perChannel = memory(32 * 64), perToken = memory(32 * vectorBytes("int4", headDim));
  storeGroup("keys", "kivi4", keys, ats, headDim, perChannel, 0, 0);
  storeGroup("keys", "int4", keys, ats, headDim, perToken, 0, 0);
  const errorsOf = (format: "kivi4" | "int4", stored: ReturnType<typeof memory>) => {
    const out = new Float32Array(32 * headDim);
    loadSlots("keys", format, stored, 0, 0, 32, headDim, out, 0, headDim);
    return Array.from(
      { length: headDim },
      (_, d) => Math.max(...ats.map((at) => Math.abs(out[at + d]! - keys[at + d]!))),
    );
  };
  const errors = errorsOf("kivi4", perChannel);
  errors.forEach((error, d) => {
    const channel = ats.map((at) => keys[at + d]!);
    const step = (Math.max(...channel) - Math.min(...channel)) / 15;
    // Scale and minimum are rounded to 11 bits.
    const slack = 2 ** -11 * (15 * step + Math.max(...channel.map(Math.abs)));
    assert(error <= step / 2 * (1 + 1e-6) + slack, `channel ${d}: ${error}, step ${step}`);
  });
  // Next to outlier channels the others keep their precision, which per token they lose.
  const usual = [0, 1, 2, 4, 5, 6, 8, 9, 10];
  const worst = (all: readonly number[]) => Math.max(...usual.map((d) => all[d]!));
  assert(worst(errorsOf("int4", perToken)) > 8 * worst(errors));
});

Deno.test("copySlot() moves kivi4 groups whole, bit for bit, and refuses another place in a group", () => {
  const headDim = 5, page = 64 * (4 * headDim + 32 * 4);
  const stored = memory(2 * page);
  const keys = Float32Array.from({ length: 32 * headDim }, (_, i) => Math.sin(i) * (1 + i % 5));
  const ats = Array.from({ length: 32 }, (_, i) => i * headDim);
  const read = (at: number, slot: number) => {
    const out = new Float32Array(32 * headDim);
    loadSlots("keys", "kivi4", stored, at, slot, 32, headDim, out, 0, headDim);
    return out;
  };
  storeGroup("keys", "kivi4", keys, ats, headDim, stored, 0, 32);
  for (let i = 0; i < 32; i++) {
    copySlot("keys", "kivi4", stored.bytes, [0, 32 + i], [page, i], headDim);
  }
  assertEquals(read(page, 0), read(0, 32));
  const move = () => copySlot("keys", "kivi4", stored.bytes, [0, 33], [page, 2], headDim);
  assertThrows(move, RangeError, "whole groups");
  const few = () => storeGroup("keys", "kivi4", keys, ats.slice(1), headDim, stored, 0, 0);
  assertThrows(few, RangeError, "32 at a time");
});
