/** The backends that model and engine tests run on. */
import type { Backend } from "../runtime/backend/backend.ts";
import { createCpuBackend } from "../runtime/backend/cpu/mod.ts";
import { createWasmBackend } from "../runtime/backend/wasm/mod.ts";
import { createTestGpuBackend, gpu } from "./_webgpu.ts";

/** Name for test titles and how to open it. */
export interface TestedBackend {
  readonly name: string;
  readonly create: () => Backend;
  /**
   * How much larger errors may be than on the reference, which adds in double precision and rounds
   * each op's results once.
   */
  readonly errorFactor: number;
  /** Driven by a CPU where there is no GPU: tests of scheduling leave it out, others take fewer cases. */
  readonly isSlow?: boolean;
}

export const backends: readonly TestedBackend[] = [
  { name: "CPU", create: createCpuBackend, errorFactor: 1 },
  { name: "WASM", create: createWasmBackend, errorFactor: 2 },
  ...(gpu === undefined
    ? []
    : [{ name: "WebGPU", create: () => createTestGpuBackend(), errorFactor: 2, isSlow: true }]),
];
