/** Chooses where models run. Adding a backend = one line in `backends`. */
import { NotFoundError } from "../errors.ts";
import type { Backend } from "./backend.ts";
import { createCpuBackend } from "./cpu/mod.ts";
import { createWasmBackend, isWasmSupported } from "./wasm/mod.ts";

/** Name -> how to open it, fastest first; undefined where it cannot run on this machine. */
const backends: Readonly<Record<string, () => Promise<Backend | undefined>>> = {
  wasm: () => Promise.resolve(isWasmSupported() ? createWasmBackend() : undefined),
  cpu: () => Promise.resolve(createCpuBackend()),
};

/**
 * Opens a backend by name; "auto" takes the first one that works here.
 *
 * @throws {NotFoundError} if there is no such backend in this build or it cannot run here
 */
export async function selectBackend(name: string): Promise<Backend> {
  const candidates = name === "auto" ? Object.keys(backends) : [name];
  for (const candidate of candidates) {
    const open = Object.hasOwn(backends, candidate) ? backends[candidate] : undefined;
    const backend = await open?.();
    if (backend) return backend;
  }
  throw new NotFoundError("backend", name, ["auto", ...Object.keys(backends)]);
}
