import { assertEquals, assertThrows } from "@std/assert";
import { FormatError, NotFoundError } from "../../../runtime/errors.ts";
import { bytesSource } from "../../../runtime/formats/reader.ts";
import {
  indexFileName,
  openShardedSafetensors,
  readShardIndex,
} from "../../../runtime/formats/safetensors_sharded.ts";
import { f32Bytes, safetensorsBytes } from "./_writers.ts";

const shard = (name: string, value: number) =>
  safetensorsBytes({ [name]: { dtype: "F32", shape: [1], data: f32Bytes(value) } });

const indexOf = (map: unknown) =>
  JSON.stringify({ metadata: { total_size: 8.0e9 }, weight_map: map });

/** A folder with these files, gone after the test. */
async function withFolder(
  files: Readonly<Record<string, Uint8Array | string>>,
  test: (folder: string) => void | Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    for (const [name, content] of Object.entries(files)) {
      const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
      await Deno.writeFile(`${folder}/${name}`, bytes);
    }
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] as const;

Deno.test("openShardedSafetensors() gives the tensors of all shards", async () => {
  const map = { a: names[0], b: names[1] };
  const files = {
    [indexFileName]: indexOf(map),
    [names[0]]: shard("a", 1),
    [names[1]]: shard("b", 2),
  };
  await withFolder(files, (folder) => {
    using weights = openShardedSafetensors(`${folder}/${indexFileName}`);
    assertEquals([...weights.names()], ["a", "b"]);
    assertEquals([weights.f32("a")[0], weights.f32("b")[0]], [1, 2]);
    assertEquals([weights.dtype("b"), weights.shape("b")], ["F32", [1]]);
    assertEquals([weights.has("b"), weights.has("c")], [true, false]);
    assertEquals(weights.raw("a"), f32Bytes(1));
    assertThrows(() => weights.f32("c"), FormatError, 'there is no tensor "c"');
  });
});

Deno.test("openShardedSafetensors() has tensors that the index forgot", async () => {
  const both = safetensorsBytes({
    a: { dtype: "F32", shape: [1], data: f32Bytes(1) },
    extra: { dtype: "F32", shape: [1], data: f32Bytes(3) },
  });
  const files = { [indexFileName]: indexOf({ a: names[0] }), [names[0]]: both };
  await withFolder(files, (folder) => {
    using weights = openShardedSafetensors(`${folder}/${indexFileName}`);
    assertEquals(weights.f32("extra")[0], 3);
  });
});

Deno.test("openShardedSafetensors() refuses a missing shard, tensor or a tensor twice", async () => {
  const index = indexOf({ a: names[0], b: names[1] });
  await withFolder({ [indexFileName]: index, [names[0]]: shard("a", 1) }, (folder) => {
    const open = () => openShardedSafetensors(`${folder}/${indexFileName}`);
    assertThrows(open, NotFoundError, names[1]);
    Deno.writeFileSync(`${folder}/${names[1]}`, shard("c", 1));
    assertThrows(open, FormatError, `tensor "b" is not in "${names[1]}"`);
    Deno.writeFileSync(`${folder}/${names[1]}`, shard("a", 1));
    assertThrows(open, FormatError, 'tensor "a" is in two shards');
    Deno.writeFileSync(`${folder}/${names[1]}`, shard("b", 1).subarray(0, 40));
    assertThrows(open, FormatError, names[1]);
  });
});

Deno.test("readShardIndex() refuses shard names that are no plain file names", () => {
  const bad = [
    "../x",
    "/etc/passwd",
    "a/b",
    "..",
    ".",
    "",
    "a\\b",
    "c:x",
    "a\u0000",
    "ü",
    3,
    null,
    [
      "a",
    ],
  ];
  for (const name of bad) {
    const bytes = new TextEncoder().encode(indexOf({ a: name }));
    assertThrows(
      () => readShardIndex(bytesSource(bytes, indexFileName)),
      FormatError,
      "is not a plain file name",
    );
  }
});

Deno.test("readShardIndex() refuses a malformed index, a duplicate key and too many shards", () => {
  const many = Object.fromEntries(Array.from({ length: 513 }, (_, i) => [`t${i}`, `s${i}`]));
  const cases: [string, string][] = [
    ["", "the text ends too early"],
    ["[]", "weight_map is missing"],
    ["{}", "weight_map is missing"],
    [`{"weight_map":[]}`, "weight_map is missing"],
    [`{"weight_map":{"a":"x","a":"y"}}`, 'duplicate key "a"'],
    [`{"weight_map":{"a":{"b":{"c":{"d":1}}}}}`, "nesting is deeper than 4"],
    [indexOf(many), "more than 512 shards"],
  ];
  for (const [text, message] of cases) {
    const source = bytesSource(new TextEncoder().encode(text), indexFileName);
    assertThrows(() => readShardIndex(source), FormatError, message);
  }
});

Deno.test({
  name: "openShardedSafetensors() follows a symbolic link inside the root only",
  ignore: Deno.build.os === "windows", // links need a privilege there
  async fn() {
    await withFolder({ "blob": shard("a", 4) }, async (root) => {
      const folder = `${root}/model`;
      await Deno.mkdir(folder);
      await Deno.writeTextFile(`${folder}/${indexFileName}`, indexOf({ a: names[0] }));
      await Deno.symlink(`${root}/blob`, `${folder}/${names[0]}`);
      const path = `${folder}/${indexFileName}`;
      assertThrows(() => openShardedSafetensors(path), FormatError, "symbolic link that leaves");
      using weights = openShardedSafetensors(path, { root });
      assertEquals(weights.f32("a")[0], 4);
    });
  },
});
