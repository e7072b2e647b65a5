import { assertEquals } from "@std/assert";
import { createCpuBackend } from "../../../runtime/backend/cpu/mod.ts";
import { createWasmBackend } from "../../../runtime/backend/wasm/mod.ts";
import type { WeightSource } from "../../../runtime/formats/weights.ts";
import { weightTypes } from "../../../runtime/models/mod.ts";
import { hashedWeights } from "../../fakes/hashed_weights.ts";

const embedding = "model.embed_tokens.weight";
const q = "model.layers.0.self_attn.q_proj.weight";
const norm = "model.norm.weight";

/** A file of `rows` embeddings whose matrices are stored as `dtype`. */
function file(dtype: string, rows = 64, cols = 64): WeightSource {
  const shapes: Record<string, number[]> = {
    [embedding]: [rows, cols],
    [q]: [32, cols],
    [norm]: [cols],
  };
  return {
    ...hashedWeights({}),
    names: () => Object.keys(shapes),
    has: (name) => Object.hasOwn(shapes, name),
    shape: (name) => shapes[name]!,
    dtype: (name) => shapes[name]!.length === 2 ? dtype : "F32",
  };
}

Deno.test("weightTypes() keeps integers, rounds what would grow, and leaves small float files exact", () => {
  using wasm = createWasmBackend();
  const large = (256 << 20) / 4 / 64; // rows that alone reach the limit
  const expected: [weights: WeightSource, type: string, keeps: boolean][] = [
    [file("Q8_0"), "q8", true],
    [file("Q4_0"), "q4", true],
    [file("Q6_K"), "q8", false],
    [file("Q4_K"), "q8", false],
    [file("BF16"), "f32", false],
    [file("F32", large - 32), "f32", false],
    [file("F32", large), "q8", false],
    [file("F16", large), "q8", false],
    [file("F16", large * 2, 40), "f32", false], // rows of 40 are no whole blocks
  ];
  for (const [weights, type, keeps] of expected) {
    const typeOf = weightTypes(weights, wasm, "auto");
    for (const name of [embedding, q]) assertEquals(typeOf(name), { type, keeps });
    assertEquals(typeOf(norm), { type: "f32", keeps: false });
  }
});

Deno.test("weightTypes() gives the ends 8 bits in q4, and f32 to backends without integers", () => {
  using wasm = createWasmBackend();
  using cpu = createCpuBackend();
  const four = weightTypes(file("BF16"), wasm, "q4");
  assertEquals([four(embedding).type, four(q).type], ["q8", "q4"]);
  for (const dtype of ["Q8_0", "Q6_K", "F16"]) {
    assertEquals(weightTypes(file(dtype), cpu, "auto")(q), { type: "f32", keeps: false });
  }
  assertEquals(weightTypes(file("Q6_K"), wasm, "file")(q).type, "f32");
  assertEquals(weightTypes(file("Q8_0"), wasm, "f32")(q), { type: "f32", keeps: false });
});
