/** The committed modules are what the emitter writes, and a backend made from them is the same. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { builtModules } from "../../../../runtime/backend/wasm/build.ts";
import { kernelBytes } from "../../../../runtime/backend/wasm/kernels/mod.ts";
import { createWasmBackend } from "../../../../runtime/backend/wasm/mod.ts";
import { evaluate, upload } from "../../../conformance/_backend_ops.ts";
import { randomMatrix, randomOf } from "../../../conformance/_backend_reference.ts";

const advice = "run `deno task wasm:build` after a change of the kernels";

for (const [file, options] of Object.entries(builtModules)) {
  const url = new URL(`../../../../runtime/backend/wasm/built/${file}`, import.meta.url);

  Deno.test(`built/${file} is what deno task wasm:build writes`, async () => {
    const built = await Deno.readFile(url), emitted = kernelBytes(options);
    assertEquals(built.length, emitted.length, advice);
    assert(built.every((byte, i) => byte === emitted[i]), advice);
  });

  Deno.test(`createWasmBackend() takes ${file} precompiled, with the same results`, async () => {
    const module = new WebAssembly.Module(await Deno.readFile(url));
    const x = randomMatrix(randomOf(70), 5, 64), w = randomMatrix(randomOf(71), 9, 64);
    const run = async (backend: ReturnType<typeof createWasmBackend>) => {
      using xt = upload(backend, x);
      using wt = backend.tensor("w", [9, 64], "q8", w.data);
      return await evaluate(backend, (ops) => ops.linear(xt, wt));
    };
    using expected = createWasmBackend();
    using backend = createWasmBackend({ module, threads: 4 });
    assertEquals(await run(backend), await run(expected));
  });
}

Deno.test("createWasmBackend() refuses a module that is not its kernels", () => {
  const empty = new WebAssembly.Module(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0));
  assertThrows(() => createWasmBackend({ module: empty }), TypeError, "no kernel");
});
