import { assert, assertEquals, assertThrows } from "@std/assert";
import { FormatError, NotFoundError } from "../../../runtime/errors.ts";
import { openGguf, readGguf } from "../../../runtime/formats/gguf.ts";
import { bytesSource } from "../../../runtime/formats/reader.ts";
import { sharedData, testWithSharedData } from "../../_shared_data.ts";
import { f32Bytes, ggufBytes, type GgufFile, type GgufPair } from "./_writers.ts";

const open = (file: GgufFile) => readGguf(bytesSource(ggufBytes(file), "test.gguf"));

Deno.test("readGguf() gives every metadata type its value", () => {
  const big = 2n ** 53n;
  const pairs: GgufPair[] = [
    { key: "u8", type: "u8", value: 255 },
    { key: "i8", type: "i8", value: -128 },
    { key: "u16", type: "u16", value: 65_535 },
    { key: "i16", type: "i16", value: -32_768 },
    { key: "u32", type: "u32", value: 4_294_967_295 },
    { key: "i32", type: "i32", value: -2_147_483_648 },
    { key: "f32", type: "f32", value: 1.5 },
    { key: "f64", type: "f64", value: Math.PI },
    { key: "u64", type: "u64", value: big - 1n },
    { key: "u64.big", type: "u64", value: 2n ** 64n - 1n },
    { key: "i64", type: "i64", value: -big + 1n },
    { key: "i64.big", type: "i64", value: -(2n ** 63n) },
    { key: "yes", type: "bool", value: true },
    { key: "no", type: "bool", value: false },
    { key: "text", type: "string", value: "\uFEFFcafé 🙂" },
    { key: "empty", type: "string", value: "" },
  ];
  using file = open({ pairs });
  const values = pairs.map(({ key }) => file.metadata.get(key)?.value);
  const expected = pairs.map(({ value }) =>
    typeof value === "bigint" && value < big && value > -big ? Number(value) : value
  );
  assertEquals<unknown>(values, expected);
  assertEquals([...file.metadata.keys()], pairs.map(({ key }) => key));
});

Deno.test("readGguf() gives every array type its items", () => {
  const numeric = ["u8", "i8", "u16", "i16", "u32", "i32", "f32", "f64", "u64", "i64"] as const;
  const pairs: GgufPair[] = [
    ...numeric.map((type) => ({ key: type, type, value: [0, 1, 127] })),
    { key: "strings", type: "string", value: ["a", "", "ß"] },
    { key: "booleans", type: "bool", value: [true, false] },
    { key: "none", type: "u32", value: [] },
    { key: "no strings", type: "string", value: [] },
    { key: "large", type: "u64", value: [2n ** 53n] },
  ];
  using file = open({ pairs });
  for (const type of numeric) assertEquals(file.metadata.numbers(type), [0, 1, 127]);
  assertEquals(file.metadata.strings("strings"), ["a", "", "ß"]);
  assertEquals(file.metadata.get("booleans")?.value, [true, false]);
  assertEquals(file.metadata.numbers("none"), []);
  assertEquals(file.metadata.strings("no strings"), []);
  assertThrows(() => file.metadata.numbers("large"), FormatError, '"large" is an array of u64');
});

Deno.test("GgufMetadata tells an absent key from one of another type", () => {
  using file = open({
    pairs: [{ key: "n", type: "u32", value: 3 }, { key: "s", type: "string", value: "x" }],
  });
  const { metadata } = file;
  assertEquals(metadata.number("n"), 3);
  for (const get of ["string", "number", "boolean", "strings", "numbers"] as const) {
    assertEquals(metadata[get]("absent"), undefined);
  }
  assertThrows(() => metadata.string("n"), FormatError, '"n" is u32, expected a string');
  assertThrows(() => metadata.number("s"), FormatError, '"s" is string, expected a number');
  assertThrows(() => metadata.boolean("n"), FormatError, "expected a boolean");
  assertThrows(() => metadata.strings("s"), FormatError, "expected an array of strings");
  assertThrows(() => metadata.numbers("n"), FormatError, "expected an array of numbers");
});

for (const alignment of [8, 32, 65_536]) {
  Deno.test(`readGguf() finds tensors at an alignment of ${alignment}`, () => {
    using file = open({
      alignment,
      pairs: [{ key: "general.alignment", type: "u32", value: alignment }],
      tensors: [
        { name: "matrix", sizes: [3, 2], type: 0, data: f32Bytes(1, 2, 3, 4, 5, 6) },
        { name: "half", sizes: [2], type: 1, data: Uint8Array.of(0x00, 0x3c, 0x00, 0xc0) },
        { name: "cube", sizes: [1, 1, 2, 1], type: 30, data: Uint8Array.of(0x80, 0x3f, 0, 0) },
      ],
    });
    assertEquals([...file.names()], ["matrix", "half", "cube"]);
    assertEquals(file.shape("matrix"), [2, 3]);
    assertEquals(file.shape("cube"), [1, 2, 1, 1]);
    assertEquals(["matrix", "half", "cube"].map(file.dtype), ["F32", "F16", "BF16"]);
    assertEquals([...file.f32("matrix")], [1, 2, 3, 4, 5, 6]);
    assertEquals([...file.f32("half")], [1, -2]);
    assertEquals([...file.f32("cube")], [1, 0]);
    assertEquals(file.raw("half"), Uint8Array.of(0x00, 0x3c, 0x00, 0xc0));
    assert(file.has("half") && !file.has("other"));
  });
}

Deno.test("readGguf() reads version 2 and a file whose last tensor is not padded", () => {
  const tensors = [{ name: "t", sizes: [2], type: 0, data: f32Bytes(7, 8) }];
  const bytes = ggufBytes({ version: 2, tensors });
  for (const cut of [0, 1, 24]) { // 8 bytes of data, 24 of padding
    using file = readGguf(bytesSource(bytes.subarray(0, bytes.length - cut), "test.gguf"));
    assertEquals([file.version, ...file.f32("t")], [2, 7, 8]);
  }
});

Deno.test("Gguf.f32() names a type that cannot be used as weights, raw() still works", () => {
  const data = new Uint8Array(84).fill(1);
  using file = open({ tensors: [{ name: "w", sizes: [256], type: 10, data }] });
  assertThrows(() => file.f32("w"), FormatError, "weights of type Q2_K are not supported");
  assertEquals(file.dtype("w"), "Q2_K");
  assertEquals(file.raw("w"), data);
});

Deno.test("Gguf names the tensor that is missing", () => {
  using file = open({});
  for (const ask of [file.shape, file.dtype, file.f32, file.raw]) {
    assertThrows(() => ask("nope"), FormatError, 'there is no tensor "nope"');
  }
});

Deno.test("readGguf() changes nothing when the caller changes what it got", () => {
  using file = open({ tensors: [{ name: "t", sizes: [1], type: 0, data: f32Bytes(5) }] });
  file.f32("t")[0] = 6;
  file.raw("t").fill(0);
  assertEquals([...file.f32("t")], [5]);
});

Deno.test("openGguf() names a missing file without its folder", () => {
  const error = assertThrows(() => openGguf("/no/such/folder/m.gguf"), NotFoundError, "m.gguf");
  assert(!error.message.includes("such"));
});

Deno.test("openGguf() refuses a folder", async () => {
  const folder = await Deno.makeTempDir();
  try {
    assertThrows(() => openGguf(folder), FormatError, "not a regular file");
  } finally {
    await Deno.remove(folder);
  }
});

const vocabularies = [
  { name: "llama-spm", model: "llama", tokens: 32_000, first: "<unk>" },
  { name: "phi-3", model: "llama", tokens: 32_064, first: "<unk>" },
  { name: "gpt-2", model: "gpt2", tokens: 50_257, first: "!" },
  { name: "deepseek-coder", model: "gpt2", tokens: 32_256, first: "!" },
];
for (const { name, model, tokens, first } of vocabularies) {
  testWithSharedData(`openGguf() reads the vocabulary of ${name}`, () => {
    using file = openGguf(sharedData(`tokenizers/llamacpp-vocab/ggml-vocab-${name}.gguf`));
    assertEquals([...file.names()], []);
    assertEquals(file.metadata.string("tokenizer.ggml.model"), model);
    const pieces = file.metadata.strings("tokenizer.ggml.tokens");
    assertEquals([pieces?.length, pieces?.[0]], [tokens, first]);
    assertEquals(file.metadata.numbers("tokenizer.ggml.token_type")?.length, tokens);
  });
}

Deno.test("readGguf() leaves out keys that are not wanted, and refuses what is wrong with them", () => {
  const pairs: GgufPair[] = [
    { key: "tokenizer.tokens", type: "string", value: ["a", "", "zwölf"] },
    { key: "tokenizer.types", type: "i32", value: [1, 2, 3] },
    { key: "tokenizer.model", type: "string", value: "gpt2" },
    { key: "general.tags", type: "string", value: ["x", "y"] },
  ];
  const options = { without: "tokenizer." };
  const open = (all: GgufPair[]) =>
    readGguf(bytesSource(ggufBytes({ pairs: all }), "a.gguf"), options);
  using file = open(pairs);
  assertEquals([...file.metadata.keys()], ["general.tags"]);
  assertEquals(file.metadata.strings("general.tags"), ["x", "y"]);
  assertThrows(() => open([...pairs, pairs[0]!]), FormatError, "duplicate metadata key");
  const bytes = ggufBytes({ pairs: pairs.slice(0, 1) });
  for (let length = 24; length < bytes.length; length++) {
    const cut = bytesSource(bytes.subarray(0, length), "a.gguf");
    assertThrows(() => readGguf(cut, options), FormatError);
  }
});
