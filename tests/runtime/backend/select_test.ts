import { assert, assertEquals, assertRejects } from "@std/assert";
import { hasRelaxedSimd, kernelBytes } from "../../../runtime/backend/wasm/kernels/mod.ts";
import { selectBackend } from "../../../runtime/backend/select.ts";
import { isWasmSupported } from "../../../runtime/backend/wasm/mod.ts";
import { BackendError, NotFoundError } from "../../../runtime/errors.ts";
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

/** Runs with an engine whose `WebAssembly.validate` also has to find `accept` true. */
async function withEngine(accept: (bytes: Uint8Array) => boolean, run: () => Promise<void>) {
  const { validate } = WebAssembly;
  try {
    WebAssembly.validate = (bytes) =>
      accept(new Uint8Array(bytes as ArrayBuffer)) && validate.call(WebAssembly, bytes);
    await run();
  } finally {
    WebAssembly.validate = validate;
  }
}

Deno.test("selectBackend() takes plain TypeScript for auto where there is no SIMD, and says why", async () => {
  await withEngine(() => false, async () => {
    const skipped: string[] = [];
    using backend = await selectBackend("auto", {}, (name, why) => skipped.push(`${name}: ${why}`));
    assertEquals(backend.name, "cpu");
    assert(skipped.includes("wasm: there is no 128-bit SIMD"), skipped.join());
    await assertRejects(() => selectBackend("wasm"), BackendError, "no 128-bit SIMD");
  });
});

Deno.test("createWasmBackend() does without relaxed SIMD where the engine has none", async () => {
  // i16x8.relaxed_dot_i8x16_i7x16_s
  const isRelaxed = (bytes: Uint8Array) =>
    bytes.some((byte, i) => byte === 0xfd && bytes[i + 1] === 0x92 && bytes[i + 2] === 0x02);
  const modules: boolean[] = [];
  await withEngine((bytes) => !isRelaxed(bytes), async () => {
    modules.push(hasRelaxedSimd());
    using backend = await selectBackend("auto");
    assertEquals(backend.name, "wasm");
  });
  modules.push(hasRelaxedSimd(), isRelaxed(kernelBytes({ relaxed: false, shared: false })));
  assertEquals(modules, [false, true, false]);
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
