import { assert, assertEquals, assertRejects } from "@std/assert";
import { selectBackend } from "../../../runtime/backend/select.ts";
import { isWasmSupported } from "../../../runtime/backend/wasm/mod.ts";
import { NotFoundError } from "../../../runtime/errors.ts";
import { gpu, testWithGpu } from "../../_webgpu.ts";

Deno.test("selectBackend() opens backends by name", async () => {
  for (const name of ["wasm", "cpu"]) {
    using backend = await selectBackend(name);
    assertEquals(backend.name, name);
  }
});

Deno.test("selectBackend() takes WebAssembly for auto where SIMD works", async () => {
  using backend = await selectBackend("auto");
  assertEquals(backend.name, isWasmSupported() ? "wasm" : "cpu");
});

Deno.test("selectBackend() names what it knows when it refuses", async () => {
  for (const name of ["abacus", "toString"]) {
    const error = await assertRejects(() => selectBackend(name), NotFoundError);
    assert(error.message.includes("auto, webgpu, wasm, cpu"), error.message);
  }
});

testWithGpu("selectBackend() opens WebGPU by name on any adapter that computes right", async () => {
  using backend = await selectBackend("webgpu", { memoryBytes: 2 ** 28 });
  assertEquals(backend.name, "webgpu");
  assertEquals(backend.details?.["memory_bytes"], 2 ** 28);
});

Deno.test("selectBackend() never takes a GPU for auto that is imitated on the CPU", async () => {
  if (gpu !== undefined && !gpu.info.isSoftware) return; // there is a real one here
  const skipped: string[] = [];
  using backend = await selectBackend("auto", {}, (name) => skipped.push(name));
  assertEquals(backend.name, "wasm");
  assertEquals(skipped, [], "a machine without a GPU is nothing to tell of");
});
