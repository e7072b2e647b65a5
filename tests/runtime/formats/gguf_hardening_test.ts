import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { FormatError } from "../../../runtime/errors.ts";
import { readGguf } from "../../../runtime/formats/gguf.ts";
import { bytesSource } from "../../../runtime/formats/reader.ts";
import {
  absurdSizes,
  acceptedTruncations,
  accepts,
  flipBits,
  type Reader,
  withinBudget,
} from "./_hardening.ts";
import {
  ByteWriter,
  f32Bytes,
  ggufBytes,
  type GgufFile,
  type GgufPair,
  type GgufTensor,
  ggufTypeIds,
} from "./_writers.ts";

/** Opens the file and dequantises everything in it. */
const readAll: Reader = (bytes) => {
  using file = readGguf(bytesSource(bytes, "test.gguf"));
  for (const name of file.names()) {
    file.raw(name);
    const count = file.shape(name).reduce((product, size) => product * size, 1);
    assertEquals(file.f32(name).length, count);
  }
};

const data = f32Bytes(1, 2, 3, 4);
const tensor: GgufTensor = { name: "a", sizes: [2, 2], type: 0, data };
const alignment: GgufPair = { key: "general.alignment", type: "u32", value: 32 };
const sample: GgufFile = {
  pairs: [
    alignment,
    { key: "general.architecture", type: "string", value: "llama" },
    { key: "flag", type: "bool", value: true },
    { key: "rate", type: "f32", value: 10_000 },
    { key: "tokens", type: "string", value: ["<s>", "a", "ü"] },
    { key: "scores", type: "f32", value: [0, -1, -2] },
  ],
  tensors: [
    tensor,
    { name: "b", sizes: [32], type: 8, data: new Uint8Array(34).fill(0x11) },
  ],
};

/** The reference test-suite's cases by name, each with a part of the message. */
const cases: readonly (readonly [name: string, file: GgufFile | Uint8Array, message: string])[] = [
  ["bad magic", { magic: "GGML" }, "the magic is not GGUF"],
  ["version 0", { version: 0 }, "version 0 is not supported"],
  ["version 1", { version: 1 }, "version 1 is not supported"],
  ["future version", { version: 4 }, "version 4 is not supported"],
  ["big endian", { version: 0x03000000 }, "big-endian"],
  ["tensor count without tensors", { tensorCount: 1 }, "tensor count is 1, but only 8 bytes"],
  ["pair count without pairs", { pairCount: 1 }, "metadata pair count is 1, but only 0 bytes"],
  ["empty file", new Uint8Array(0), "magic needs 4 bytes, 0 are left"],
  ["key size beyond the file", headerAnd((out) => out.u64(1000)), "needs 1000 bytes"],
  ["key size beyond the cap", headerAnd((out) => out.u64(65_537)), "more than the limit of 65536"],
  ["empty key", headerAnd((out) => out.u64(0)), "key of metadata pair 0 is empty"],
  ["key that is not UTF-8", headerAnd((out) => out.u64(1).raw([0xff])), "not valid UTF-8"],
  ["bad type", headerAnd((out) => out.string("k").u32(13)), 'type of metadata "k" is 13'],
  ["bad item type", headerAnd((out) => out.string("k").u32(9).u32(13).u64(0)), "is 13"],
  ["array of arrays", headerAnd((out) => out.string("k").u32(9).u32(9).u64(0)), "array of arrays"],
  ["bad boolean", headerAnd((out) => out.string("k").u32(7).u8(2)), "boolean with the value 2"],
  [
    "duplicate key",
    { pairs: [alignment, alignment] },
    'duplicate metadata key "general.alignment"',
  ],
  ...[0, 1, 4, 7, 12, 33, 65_535, 131_072, 0x8000_0000].map((value) =>
    [`alignment ${value}`, { pairs: [{ ...alignment, value }] }, "a power of two"] as const
  ),
  ["alignment as u64", { pairs: [{ ...alignment, type: "u64" }] }, "is of type u64, expected u32"],
  ["alignment as text", { pairs: [{ ...alignment, type: "string", value: "32" }] }, "type string"],
  ["empty name", { tensors: [{ ...tensor, name: "" }] }, "name of tensor 0 is empty"],
  ["name of 65 bytes", { tensors: [{ ...tensor, name: "n".repeat(65) }] }, "limit of 64"],
  ["no dimensions", { tensors: [{ ...tensor, dimensions: 0 }] }, "0 dimensions"],
  ["five dimensions", { tensors: [{ ...tensor, sizes: [1, 1, 1, 1, 1] }] }, "5 dimensions"],
  ["dimensions beyond 2^31", { tensors: [{ ...tensor, dimensions: 0xffffffff }] }, "dimensions"],
  ["zero dimension", { tensors: [{ ...tensor, sizes: [2, 0] }] }, "a dimension of 0"],
  ["rows not in blocks", { tensors: [{ ...tensor, sizes: [4, 8], type: 2 }] }, "rows of 4 values"],
  ["removed type", { tensors: [{ ...tensor, type: 4 }] }, "Q4_2 (removed from ggml)"],
  ["unknown type", { tensors: [{ ...tensor, type: 99 }] }, "unknown type 99"],
  ["unaligned offset", { tensors: [{ ...tensor, offset: 8 }] }, "not a multiple of 32"],
  ["offset with a hole", { tensors: [{ ...tensor, offset: 32 }] }, "is 32, expected 0"],
  ["overlap", { tensors: [tensor, { ...tensor, name: "b", offset: 0 }] }, "is 0, expected 32"],
  ["duplicate name", { tensors: [tensor, tensor] }, 'duplicate tensor name "a"'],
  [
    "alignment other than the data's",
    { alignment: 64, pairs: [alignment], tensors: [tensor, { ...tensor, name: "b" }] },
    "expected 32",
  ],
  ["not enough data", { tensors: [{ ...tensor, sizes: [512] }] }, "ends at"],
  ["trailing bytes", new Uint8Array([...ggufBytes(sample), 0]), "1 bytes after the last tensor"],
  ["part of a split file", { pairs: [{ key: "split.count", type: "u16", value: 3 }] }, "3 parts"],
];

/** A header that promises one pair, and what comes after it. */
function headerAnd(write: (out: ByteWriter) => void): Uint8Array {
  const out = new ByteWriter().text("GGUF").u32(3).u64(0).u64(1);
  write(out);
  while (out.length < 64) out.u8(0);
  return out.bytes();
}

for (const [name, file, message] of cases) {
  Deno.test(`readGguf() refuses: ${name}`, () => {
    const bytes = file instanceof Uint8Array ? file : ggufBytes(file);
    const error = assertThrows(() => readAll(bytes), FormatError, message);
    assertEquals(error.source, "test.gguf");
  });
}

Deno.test("readGguf() refuses a file cut at any byte, except inside the final padding", () => {
  const bytes = ggufBytes(sample);
  readAll(bytes);
  const lastTensorEnd = bytes.length - 30; // 34 bytes of Q8_0, padded to 64
  const expected = [...bytes.keys()].filter((length) => length >= lastTensorEnd);
  withinBudget(10, 100, () => assertEquals(acceptedTruncations(readAll, bytes), expected));
});

Deno.test("readGguf() survives every single-bit flip of the first 4 KiB", () => {
  const filler = { key: "filler", type: "string", value: "x".repeat(1000) } as const;
  const tensors = Array.from({ length: 40 }, (_, i) => ({ ...tensor, name: `tensor.${i}` }));
  const bytes = ggufBytes({ pairs: [...sample.pairs ?? [], filler], tensors });
  withinBudget(60, 200, () => {
    const [accepted, refused] = flipBits(readAll, bytes);
    assertEquals(accepted + refused, 4096 * 8);
  });
});

Deno.test("readGguf() refuses absurd sizes in every 64-bit field", () => {
  const fields: Record<string, (size: bigint) => Uint8Array> = {
    "tensor count": (tensorCount) => ggufBytes({ ...sample, tensorCount }),
    "pair count": (pairCount) => ggufBytes({ ...sample, pairCount }),
    "key length": (size) => headerAnd((out) => out.u64(size)),
    "string length": (size) => headerAnd((out) => out.string("k").u32(8).u64(size)),
    "dimension": (size) => ggufBytes({ tensors: [{ ...tensor, sizes: [size] }] }),
    "dimensions that multiply": (size) =>
      ggufBytes({ tensors: [{ ...tensor, sizes: [size, size, size, size] }] }),
    "blocks": (size) => ggufBytes({ tensors: [{ ...tensor, type: 12, sizes: [size & ~255n] }] }),
    "offset": (offset) => ggufBytes({ tensors: [{ ...tensor, offset }] }),
    "aligned offset": (size) => ggufBytes({ tensors: [{ ...tensor, offset: size & ~31n }] }),
    "name length": (size) =>
      new ByteWriter().text("GGUF").u32(3).u64(1).u64(0).u64(size).raw(new Uint8Array(99)).bytes(),
  };
  for (const [type, id] of Object.entries(ggufTypeIds)) {
    fields[`array of ${type}`] = (size) =>
      headerAnd((out) => out.string("k").u32(ggufTypeIds.array).u32(id).u64(size));
  }
  withinBudget(20, 50, () => {
    for (const [field, make] of Object.entries(fields)) {
      for (const size of absurdSizes) {
        assertEquals(accepts(readAll, make(size), `${field} ${size}`), false, `${field} ${size}`);
      }
    }
  });
});

Deno.test("readGguf() refuses four dimensions whose product wraps around 2^64 to a small one", () => {
  // (2^16)^4 = 2^64, and 2^32 * 2^32 * 1 * 4: both are 0 in 64-bit arithmetic.
  for (const sizes of [[2n ** 16n, 2n ** 16n, 2n ** 16n, 2n ** 16n], [2n ** 32n, 2n ** 32n, 4n]]) {
    const bytes = ggufBytes({ tensors: [{ ...tensor, sizes }] });
    assertThrows(() => readAll(bytes), FormatError, "more values than the file could hold");
  }
});

Deno.test("readGguf() bounds all strings together and all array items together", () => {
  // 65 strings of a mebibyte each, though each alone is allowed.
  const text = new TextEncoder().encode("x".repeat(2 ** 20));
  const head = new ByteWriter().text("GGUF").u32(3).u64(0).u64(1).string("k").u32(9).u32(8).u64(65);
  const item = [...new ByteWriter().u64(text.length).bytes()];
  const parts = [head.bytes(), ...Array.from({ length: 65 }, () => [item, text]).flat()];
  const bytes = concat(parts.map((part) => Uint8Array.from(part)));
  assertThrows(() => readAll(bytes), FormatError, "more than the limit of");

  const booleans = new ByteWriter().text("GGUF").u32(3).u64(0).u64(1).string("k").u32(9).u32(7);
  const large = concat([booleans.u64(2 ** 24 + 1).bytes(), new Uint8Array(2 ** 24 + 1)]);
  assertThrows(() => readAll(large), FormatError, "more than the limit of 16777216");
});

Deno.test("readGguf() reads 10 MB of metadata in linear time", () => {
  const items = 500_000;
  const head = new ByteWriter().text("GGUF").u32(3).u64(0).u64(1);
  head.string("tokens").u32(ggufTypeIds.array).u32(ggufTypeIds.string).u64(items);
  const item = new ByteWriter().string("abcdefghijkl").bytes();
  const body = new Uint8Array(items * item.length);
  for (let i = 0; i < items; i++) body.set(item, i * item.length);
  const bytes = concat([head.bytes(), body]);
  // 0.4 s on an idle machine; tests run beside each other.
  withinBudget(20, 200, () => {
    using file = readGguf(bytesSource(bytes, "test.gguf"));
    assertEquals(file.metadata.strings("tokens")?.length, items);
  });
});

Deno.test("readGguf() never fails untyped on random bytes", () => {
  const start = ggufBytes(sample).subarray(0, 24);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(24), (tail, keep) => {
      accepts(readAll, concat([start.subarray(0, keep), tail]), "random");
    }),
    { numRuns: 2000, seed: 1 },
  );
});

Deno.test("readGguf() never fails untyped on a valid file with random bytes in it", () => {
  const valid = ggufBytes(sample);
  const change = fc.tuple(fc.nat(valid.length - 1), fc.nat(255));
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 8 }), (changes) => {
      const bytes = new Uint8Array(valid);
      for (const [at, value] of changes) bytes[at] = value;
      accepts(readAll, bytes, "damaged");
    }),
    { numRuns: 2000, seed: 2 },
  );
});

function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
