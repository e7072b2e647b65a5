import { assertEquals, assertThrows } from "@std/assert";
import { FormatError } from "../../../runtime/errors.ts";
import { type ByteSource, bytesSource } from "../../../runtime/formats/reader.ts";
import { openSafetensors, readSafetensors } from "../../../runtime/formats/safetensors.ts";
import { f32Bytes, safetensorsBytes, safetensorsFile } from "./_writers.ts";

const read = (bytes: Uint8Array) => readSafetensors(bytesSource(bytes, "model.safetensors"));

Deno.test("readSafetensors() reads F32, F16 and BF16 tensors and the metadata", () => {
  using file = read(safetensorsBytes({
    "a.weight": { dtype: "F32", shape: [2, 3], data: f32Bytes(1, 2, 3, 4, 5, 6) },
    "b": { dtype: "F16", shape: [2], data: Uint8Array.of(0, 0x3c, 0, 0xc0) },
    "c": { dtype: "BF16", shape: [1, 1, 1, 1], data: Uint8Array.of(0x80, 0x3f) },
    "scalar": { dtype: "F32", shape: [], data: f32Bytes(9) },
    "none": { dtype: "F32", shape: [0, 4], data: f32Bytes() },
  }, { format: "pt" }));
  assertEquals([...file.names()], ["a.weight", "b", "c", "scalar", "none"]);
  assertEquals(file.shape("a.weight"), [2, 3]);
  assertEquals(file.dtype("c"), "BF16");
  assertEquals([...file.f32("a.weight")], [1, 2, 3, 4, 5, 6]);
  assertEquals([...file.f32("b")], [1, -2]);
  assertEquals([...file.f32("c")], [1]);
  assertEquals([...file.f32("scalar")], [9]);
  assertEquals([...file.f32("none")], []);
  assertEquals(file.raw("b"), Uint8Array.of(0, 0x3c, 0, 0xc0));
  assertEquals([file.has("b"), file.has("__metadata__")], [true, false]);
  assertEquals([...file.metadata], [["format", "pt"]]);
});

Deno.test("readSafetensors() accepts entries in any order and a header padded with spaces", () => {
  const header = `{"late":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},` +
    `"early":{"shape":[1],"data_offsets":[0,4],"dtype":"F32"}}    `;
  using file = read(safetensorsFile(header, f32Bytes(1, 2)));
  assertEquals([...file.names()], ["late", "early"]);
  assertEquals([file.f32("late")[0], file.f32("early")[0]], [2, 1]);
});

Deno.test("readSafetensors() reads a file without tensors", () => {
  using file = read(safetensorsFile("{}", new Uint8Array(0)));
  assertEquals([...file.names()], []);
});

Deno.test("Safetensors.f32() names a type that cannot be used as weights, raw() still works", () => {
  for (const [dtype, bytes] of [["I64", 8], ["F64", 8], ["F8_E4M3", 1], ["BOOL", 1]] as const) {
    using file = read(
      safetensorsBytes({ w: { dtype, shape: [2], data: new Uint8Array(2 * bytes) } }),
    );
    assertThrows(() => file.f32("w"), FormatError, `weights of type ${dtype} are not supported`);
    assertEquals(file.raw("w").length, 2 * bytes);
  }
});

Deno.test("readSafetensors() counts types of less than a byte in bits", () => {
  using file = read(
    safetensorsBytes({ w: { dtype: "F4", shape: [3, 2], data: new Uint8Array(3) } }),
  );
  assertEquals(file.raw("w").length, 3);
  const odd = safetensorsBytes({ w: { dtype: "F4", shape: [3], data: new Uint8Array(2) } });
  assertThrows(() => read(odd), FormatError, "does not take the 2 bytes");
});

Deno.test("Safetensors names the tensor that is missing", () => {
  using file = read(safetensorsBytes({}));
  for (const ask of [file.shape, file.dtype, file.f32, file.raw]) {
    assertThrows(() => ask("nope"), FormatError, 'there is no tensor "nope"');
  }
});

Deno.test("readSafetensors() finds keys of Object.prototype only if the file has them", () => {
  const w = { dtype: "F32", shape: [1], data: f32Bytes(3) };
  using plain = read(safetensorsBytes({ w }));
  assertEquals([plain.has("constructor"), plain.has("__proto__")], [false, false]);
  using named = read(
    safetensorsFile(
      `{"__proto__":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`,
      f32Bytes(3),
    ),
  );
  assertEquals([...named.f32("__proto__")], [3]);
});

Deno.test("readSafetensors() closes its source with the file, and when it fails", () => {
  for (const header of ["{}", "broken"]) {
    let closed = 0;
    const bytes = bytesSource(safetensorsFile(header, new Uint8Array(0)), "x");
    const source: ByteSource = { ...bytes, [Symbol.dispose]: () => closed++ };
    try {
      readSafetensors(source)[Symbol.dispose]();
    } catch (error) {
      assertEquals(error instanceof FormatError, true);
    }
    assertEquals(closed, 1);
  }
});

Deno.test("openSafetensors() reads a file from disk, also when it shrinks later", async () => {
  const path = await Deno.makeTempFile({ suffix: ".safetensors" });
  try {
    const w = { dtype: "F32", shape: [2], data: f32Bytes(1, 2) };
    await Deno.writeFile(path, safetensorsBytes({ w }));
    using file = openSafetensors(path);
    assertEquals([...file.f32("w")], [1, 2]);
    await Deno.truncate(path, 20);
    assertThrows(() => file.f32("w"), FormatError, "became shorter");
  } finally {
    await Deno.remove(path);
  }
});
