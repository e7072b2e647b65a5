/**
 * `deno task wasm:build`: writes the kernels as modules for platforms that compile nothing at run
 * time (edge bundles). The bytes depend on the emitter alone; a test compares the committed files
 * with what it emits.
 *
 * - `built/kernels.wasm` needs relaxed SIMD
 * - `built/kernels_strict.wasm` needs 128-bit SIMD
 *
 * Both are for one thread: pass the compiled module to `createWasmBackend({ module })`.
 */
import { kernelBytes, type KernelOptions } from "./kernels/mod.ts";

/** File in `built/` -> which module. */
export const builtModules: Readonly<Record<string, KernelOptions>> = {
  "kernels.wasm": { relaxed: true, shared: false },
  "kernels_strict.wasm": { relaxed: false, shared: false },
};

if (import.meta.main) {
  for (const [file, options] of Object.entries(builtModules)) {
    await Deno.writeFile(new URL(`./built/${file}`, import.meta.url), kernelBytes(options));
  }
}
