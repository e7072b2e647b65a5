/** Files written by other projects: gguf and safetensors for Python. */
import { assertEquals } from "@std/assert";
import { openGguf } from "../../../runtime/formats/gguf.ts";
import { openSafetensors } from "../../../runtime/formats/safetensors.ts";
import golden from "../../golden/formats.json" with { type: "json" };

const path = (name: string) =>
  decodeURIComponent(new URL(`../../golden/${name}`, import.meta.url).pathname);

Deno.test("openGguf() reads a file of the gguf package as it was written", () => {
  using file = openGguf(path("formats.gguf"));
  assertEquals([...file.names()].sort(), Object.keys(golden).sort());
  for (const [name, { dtype, shape, values }] of Object.entries(golden)) {
    assertEquals([file.dtype(name), file.shape(name)], [dtype, shape]);
    assertEquals([...file.f32(name)], values, name);
  }
  const { metadata } = file;
  assertEquals(metadata.string("general.architecture"), "llama");
  assertEquals(metadata.number("general.alignment"), 64);
  assertEquals(metadata.get("test.u64")?.value, 2n ** 60n);
  assertEquals([metadata.number("test.i8"), metadata.number("test.f64")], [-5, 0.1]);
  assertEquals(metadata.boolean("test.bool"), true);
  assertEquals(metadata.strings("test.strings"), ["a", "", "ü", "\uFEFF"]);
  assertEquals(metadata.numbers("test.ints"), [1, -2, 3]);
  assertEquals(metadata.numbers("test.floats"), [0.5, -1.5]);
});

Deno.test("openSafetensors() reads a file of the safetensors package as it was written", () => {
  using file = openSafetensors(path("formats.safetensors"));
  assertEquals([...file.names()].sort(), ["cube", "ids", "plain"]);
  for (const name of ["plain", "cube"] as const) {
    const { dtype, shape, values } = golden[name];
    assertEquals([file.dtype(name), file.shape(name)], [dtype, shape]);
    assertEquals([...file.f32(name)], values, name);
  }
  assertEquals([...new BigInt64Array(file.raw("ids").buffer)], [0n, 1n, 2n]);
  assertEquals([...file.metadata], [["format", "np"]]);
});
