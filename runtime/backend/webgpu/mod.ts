/**
 * The WebGPU backend. Ops record dispatches; `record` submits them as one compute pass; `read` adds
 * a copy to the same submission where it follows at once.
 *
 * A row's result is the same to the bit whatever else is in the batch, however its prompt was cut
 * into chunks and wherever its pages lie: every kernel fixes its order of additions by that row
 * alone. On another GPU or driver the bits may differ.
 */
import type { Backend, StepSize } from "../backend.ts";
import { WebGpuBackend } from "./backend.ts";
import type { Gpu } from "./device.ts";
import type { ReadbackMode } from "./readback.ts";
import type { Dispatch } from "./recorder.ts";

export { type Gpu, type GpuInfo, type GpuOptions, openGpu } from "./device.ts";
export type { ReadbackMode } from "./readback.ts";
export { GpuKvPool } from "./kv_pool.ts";
export { probe } from "./probe.ts";

/** Settings of the backend. */
export interface GpuBackendOptions {
  /** Bytes of GPU memory for weights, KV pages and step results. @default 2^40: no limit but the device's */
  readonly memoryBytes?: number;
  /** How results come back, see readback.ts. @default "ring" */
  readonly readback?: ReadbackMode;
  /** Bytes of one binding. @default what the device has; smaller values are for tests of sharding */
  readonly bindingBytes?: number;
  /** Whether ops are joined where that saves dispatches. It changes no result. @default true */
  readonly fuses?: boolean;
  /** Tokens of a step from which on matrix products are tiled. It changes no result. @default 32 */
  readonly tilesFrom?: number;
  /** Whether subgroup operations are used where they work. It changes no result. @default true */
  readonly subgroups?: boolean;
  /**
   * How keys and values are stored. In f16 a page takes half the memory and attention reads half as much;
   * logits are off by up to 2e-3 of the largest of their row, and pages come in no formats and no
   * policy reads less. Needs the device's f16. @default "f32"
   */
  readonly kv?: "f32" | "f16";
  /** How much suits one step. @default 512 tokens on GPUs, the engine's small steps on drivers on the CPU */
  readonly steps?: StepSize;
  /** Whether disposing the backend disposes the GPU as well. @default false */
  readonly ownsGpu?: boolean;
}

/** A backend on a GPU. */
export interface GpuBackend extends Backend {
  readonly gpu: Gpu;
  /** Whether keys and values are stored in f16. */
  readonly isHalf: boolean;
  /** Dispatches of the last step. */
  readonly lastStep: readonly Dispatch[];
  /** Bytes on the GPU, and objects held for reuse. */
  readonly stats: () => {
    readonly bytes: number;
    readonly stagingBytes: number;
    readonly pipelines: number;
    readonly groups: number;
    readonly params: number;
  };
}

/** Opens the backend on a GPU that stays the caller's, unless `ownsGpu`. */
export function createGpuBackend(gpu: Gpu, options: GpuBackendOptions = {}): GpuBackend {
  return new WebGpuBackend(gpu, options);
}
