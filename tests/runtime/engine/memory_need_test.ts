import { assert, assertEquals, assertThrows } from "@std/assert";
import { createCpuBackend } from "../../../runtime/backend/cpu/mod.ts";
import { createWasmBackend } from "../../../runtime/backend/wasm/mod.ts";
import { memoryNeed, type MemoryPlan, requireMemory } from "../../../runtime/engine/memory_need.ts";
import { loadDecoder, type ModelConfig } from "../../../runtime/models/mod.ts";
import { hashedWeights, llamaShapes, tinyConfig } from "../../fakes/hashed_weights.ts";

const config: ModelConfig = { ...tinyConfig, hidden: 64, ffn: 96, headDim: 16 };
const plan: MemoryPlan = { format: "file", pages: 10, pageSize: 8 };

Deno.test("memoryNeed() counts the weights and KV that loading takes, in every format", () => {
  const weights = hashedWeights(llamaShapes(config));
  for (const format of ["auto", "file", "f32", "q8", "q4"] as const) {
    using backend = createWasmBackend();
    const need = memoryNeed(config, weights, backend, { ...plan, format })!;
    using counted = { bytes: 0, [Symbol.dispose]() {} };
    const decoder = loadDecoder(config, weights, {
      ...backend,
      streamed(label, shape, dtype, source) {
        counted.bytes += backend.capacity!.tensorBytes(shape, dtype);
        return backend.streamed!(label, shape, dtype, source);
      },
      tensor(label, shape, dtype, data) {
        counted.bytes += backend.capacity!.tensorBytes(shape, dtype);
        return backend.tensor(label, shape, dtype, data);
      },
    }, { weights: format });
    assertEquals(need.weights, counted.bytes, format);
    const { layers, kvHeads, headDim } = config;
    const pool = backend.kvPool({ layers, kvHeads, headDim, pageSize: plan.pageSize }, plan.pages);
    assertEquals(need.kv, plan.pages * pool.pageBytes);
    assert(need.step > 0);
    decoder[Symbol.dispose]();
  }
});

Deno.test("requireMemory() refuses what does not fit, before a weight is read, and says what would", () => {
  const shapes = llamaShapes({ ...config, vocab: 1 << 21, hidden: 1024 });
  const never = () => assert(false, "a weight was read") as never;
  const huge = {
    ...hashedWeights({}),
    names: () => Object.keys(shapes),
    has: (name: string) => Object.hasOwn(shapes, name),
    shape: (name: string) => shapes[name]!,
    f32: never,
    raw: never,
  };
  using backend = createWasmBackend();
  const error = assertThrows(() => requireMemory(config, huge, backend, plan), RangeError);
  for (const part of [/^The model needs 16\.0\d GiB/, /holds 4\.00 GiB/, /--weights q4/]) {
    assert(part.test(error.message), error.message);
  }
  // 2^32 weights in 8 bits and a scale of 16 for every 32.
  const eight = { ...plan, format: "q8" } as const;
  assertThrows(() => requireMemory(config, huge, backend, eight), RangeError, "weights 4.25 GiB");
  const small = hashedWeights(llamaShapes(config));
  requireMemory(config, small, backend, plan);
  const pages = { ...plan, pages: 1 << 22 };
  assertThrows(() => requireMemory(config, small, backend, pages), RangeError, "KV");
  using reference = createCpuBackend();
  requireMemory(config, huge, reference, plan); // it has no limit of its own
});
