import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { FormatError } from "../../../runtime/errors.ts";
import { bytesSource } from "../../../runtime/formats/reader.ts";
import { readSafetensors } from "../../../runtime/formats/safetensors.ts";
import {
  absurdSizes,
  acceptedTruncations,
  accepts,
  flipBits,
  type Reader,
  withinBudget,
} from "./_hardening.ts";
import { ByteWriter, f32Bytes, safetensorsBytes, safetensorsFile } from "./_writers.ts";

/** Opens the file and reads everything in it. */
const readAll: Reader = (bytes) => {
  using file = readSafetensors(bytesSource(bytes, "model.safetensors"));
  for (const name of file.names()) {
    file.raw(name);
    const count = file.shape(name).reduce((product, size) => product * size, 1);
    assertEquals(file.f32(name).length, count);
  }
};

const sample = safetensorsBytes({
  a: { dtype: "F32", shape: [2, 2], data: f32Bytes(1, 2, 3, 4) },
  b: { dtype: "F16", shape: [2], data: Uint8Array.of(1, 2, 3, 4) },
}, { format: "pt" });

/** A header with one tensor entry, and four bytes of data. */
const one = (entry: string) => safetensorsFile(`{"a":${entry}}`, f32Bytes(1));
const entry = (dtype: string, shape: string, offsets: string) =>
  `{"dtype":${dtype},"shape":${shape},"data_offsets":${offsets}}`;
/** Two tensors with these offsets, and eight bytes of data. */
const two = (first: string, second: string) =>
  safetensorsFile(
    `{"a":${entry('"F32"', "[1]", first)},"b":${entry('"F32"', "[1]", second)}}`,
    f32Bytes(1, 2),
  );

const cases: readonly (readonly [name: string, bytes: Uint8Array, message: string])[] = [
  ["empty file", new Uint8Array(0), "header length needs 8 bytes, 0 are left"],
  ["header beyond the file", new ByteWriter().u64(3).text("{}").bytes(), "needs 3 bytes"],
  ["header over 100 MB", new ByteWriter().u64(100_000_001).bytes(), "limit of 100000000"],
  ["no header", new ByteWriter().u64(0).bytes(), "does not start with {"],
  ["header that starts with a space", safetensorsFile(" {}", f32Bytes()), "does not start with {"],
  ["header that is a list", safetensorsFile("[]", f32Bytes()), "does not start with {"],
  ["malformed JSON", safetensorsFile(`{"a":}`, f32Bytes()), "expected a JSON value"],
  ["header not UTF-8", new ByteWriter().u64(3).raw([0x7b, 0xff, 0x7d]).bytes(), "valid UTF-8"],
  ["text after the header", safetensorsFile("{}x", f32Bytes()), "text after the end"],
  ["duplicate tensor", safetensorsFile(`{"a":0,"\\u0061":0}`, f32Bytes()), 'duplicate key "a"'],
  ["duplicate key in an entry", one(`{"dtype":"F32","dtype":"F16"}`), 'duplicate key "dtype"'],
  ["nesting of five", safetensorsFile(`{"a":[[[[0]]]]}`, f32Bytes()), "deeper than 4"],
  ["entry that is a list", one("[]"), "its entry is not an object"],
  ["unknown key", one(`{"dtype":"F32","stride":[1]}`), 'unknown key "stride"'],
  ["no dtype", one(`{"shape":[1],"data_offsets":[0,4]}`), "dtype is missing"],
  ["unknown dtype", one(entry('"F31"', "[1]", "[0,4]")), 'unknown dtype "F31"'],
  ["dtype of Object.prototype", one(entry('"toString"', "[1]", "[0,4]")), "unknown dtype"],
  ["no shape", one(`{"dtype":"F32","data_offsets":[0,4]}`), "shape is missing"],
  ["shape of text", one(entry('"F32"', '["1"]', "[0,4]")), "shape is missing or not a list"],
  ["negative dimension", one(entry('"F32"', "[-1]", "[0,4]")), "-1 is not a whole number"],
  ["fractional dimension", one(entry('"F32"', "[1.0]", "[0,4]")), "1.0 is not a whole number"],
  ["exponent in a dimension", one(entry('"F32"', "[1e0]", "[0,4]")), "1e0 is not a whole number"],
  ["minus zero", one(entry('"F32"', "[-0]", "[0,4]")), "-0 is not a whole number"],
  ["infinite dimension", one(entry('"F32"', "[1e400]", "[0,4]")), "1e400 is not a whole number"],
  ["2^53 as a dimension", one(entry('"F32"', "[9007199254740992]", "[0,4]")), "whole number"],
  ["2^53+1 as a dimension", one(entry('"F32"', "[9007199254740993]", "[0,4]")), "whole number"],
  ["five dimensions", one(entry('"F32"', "[1,1,1,1,1]", "[0,4]")), "5 dimensions"],
  ["no offsets", one(`{"dtype":"F32","shape":[1]}`), "data_offsets is missing"],
  ["one offset", one(entry('"F32"', "[1]", "[4]")), "not two numbers"],
  ["three offsets", one(entry('"F32"', "[1]", "[0,4,4]")), "not two numbers"],
  ["offsets turned round", one(entry('"F32"', "[1]", "[4,0]")), "are not inside the 4 data bytes"],
  ["offsets beyond the file", one(entry('"F32"', "[2]", "[0,8]")), "not inside the 4 data bytes"],
  ["shape larger than its bytes", one(entry('"F32"', "[2]", "[0,4]")), "does not take the 4 bytes"],
  ["shape smaller than its bytes", one(entry('"F32"', "[0]", "[0,4]")), "does not take the 4"],
  ["hole at the start", one(entry('"F16"', "[1]", "[2,4]")), "leaves a hole before it"],
  ["overlap", two("[0,4]", "[0,4]"), "overlaps the one before"],
  ["partial overlap", two("[0,4]", "[2,6]"), "overlaps the one before"],
  ["trailing bytes", two("[0,4]", "[4,8]").subarray(0, -4), "not inside the 4 data bytes"],
  ["bytes after the last tensor", new Uint8Array([...sample, 0]), "1 bytes after the last tensor"],
  ["data without tensors", safetensorsFile("{}", f32Bytes(1)), "4 bytes after the last tensor"],
  ["metadata that is text", safetensorsFile(`{"__metadata__":"x"}`, f32Bytes()), "not an object"],
  ["metadata of numbers", safetensorsFile(`{"__metadata__":{"x":1}}`, f32Bytes()), "not a string"],
];

for (const [name, bytes, message] of cases) {
  Deno.test(`readSafetensors() refuses: ${name}`, () => {
    const error = assertThrows(() => readAll(bytes), FormatError, message);
    assertEquals(error.source, "model.safetensors");
  });
}

Deno.test("readSafetensors() refuses a file cut at any byte", () => {
  readAll(sample);
  withinBudget(10, 100, () => assertEquals(acceptedTruncations(readAll, sample), []));
});

Deno.test("readSafetensors() survives every single-bit flip of the first 4 KiB", () => {
  const tensor = { dtype: "F32", shape: [4], data: f32Bytes(1, 2, 3, 4) };
  const many = Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`tensor.${i}`, tensor]));
  const bytes = safetensorsBytes(many);
  assert(bytes.length > 4096);
  withinBudget(60, 200, () => {
    const [accepted, refused] = flipBits(readAll, bytes);
    assertEquals(accepted + refused, 4096 * 8);
    assert(refused > accepted, "the header has little that may change");
  });
});

Deno.test("readSafetensors() refuses absurd sizes in every number", () => {
  withinBudget(20, 50, () => {
    for (const size of absurdSizes) {
      const files = [
        new ByteWriter().u64(size).raw(sample.subarray(8)).bytes(),
        one(entry('"F32"', `[${size}]`, "[0,4]")),
        one(entry('"F32"', `[${size},${size},${size},${size}]`, "[0,4]")),
        one(entry('"F32"', "[1]", `[0,${size}]`)),
        one(entry('"F32"', "[1]", `[${size},${size}]`)),
        one(entry('"F32"', "[1]", `[${size},${size + 4n}]`)),
      ];
      for (const [i, bytes] of files.entries()) {
        assertEquals(accepts(readAll, bytes, `${size}, ${i}`), false, `${size}, file ${i}`);
      }
    }
  });
});

Deno.test("readSafetensors() refuses four dimensions whose product wraps around 2^64", () => {
  const bytes = one(entry('"F32"', "[65536,65536,65536,65536]", "[0,0]"));
  assertThrows(() => readAll(bytes), FormatError, "does not take the 0 bytes");
});

Deno.test("readSafetensors() reads a header of 100,000 tensors in seconds", () => {
  const entries = Array.from(
    { length: 100_000 },
    (_, i) => `"t${i}":${entry('"F32"', "[0]", "[0,0]")}`,
  );
  const header = (list: string[]) => new TextEncoder().encode(`{${list.join(",")}}`);
  const file = (text: Uint8Array) => {
    const bytes = new Uint8Array(8 + text.length);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
    bytes.set(text, 8);
    return bytes;
  };
  const allowed = file(header(entries));
  withinBudget(10, 400, () => {
    using opened = readSafetensors(bytesSource(allowed, "x"));
    assertEquals([...opened.names()].length, 100_000);
  });
  const extra = [`"x":${entry('"F32"', "[0]", "[0,0]")}`, `"y":${entry('"F32"', "[0]", "[0,0]")}`];
  const error = assertThrows(() => readAll(file(header([...entries, ...extra]))), FormatError);
  assertEquals(error.message.includes("more than 100000 tensors"), true);
});

Deno.test("readSafetensors() stops early at a header of empty objects", () => {
  // 30 MB that would become ten million maps.
  const text = new TextEncoder().encode(`{"a":[${"{},".repeat(10_000_000)}0]}`);
  const bytes = new Uint8Array(8 + text.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  withinBudget(20, 600, () => {
    assertThrows(() => readAll(bytes), FormatError, "more than 2000000 values");
  });
});

Deno.test("readSafetensors() never fails untyped on random headers and random bytes", () => {
  const text = fc.oneof(fc.json(), fc.string(), fc.constant('{"a":{"dtype":"F32"}}'));
  fc.assert(
    fc.property(text, fc.uint8Array({ maxLength: 64 }), (header, data) => {
      accepts(readAll, safetensorsFile(header, data), header);
      accepts(readAll, data, "bytes alone");
    }),
    { numRuns: 2000, seed: 3 },
  );
});

Deno.test("readSafetensors() never fails untyped on a valid file with random bytes in it", () => {
  const change = fc.tuple(fc.nat(sample.length - 1), fc.nat(255));
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 8 }), (changes) => {
      const bytes = new Uint8Array(sample);
      for (const [at, value] of changes) bytes[at] = value;
      accepts(readAll, bytes, "damaged");
    }),
    { numRuns: 2000, seed: 4 },
  );
});
