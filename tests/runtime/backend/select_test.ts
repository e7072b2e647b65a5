import { assert, assertEquals, assertRejects } from "@std/assert";
import { selectBackend } from "../../../runtime/backend/select.ts";
import { isWasmSupported } from "../../../runtime/backend/wasm/mod.ts";
import { NotFoundError } from "../../../runtime/errors.ts";

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
    assert(error.message.includes("auto, wasm, cpu"), error.message);
  }
});
