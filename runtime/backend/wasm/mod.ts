/**
 * The WebAssembly backend: 128-bit SIMD, one thread or several, weights in f32 or as
 * 8-bit or 4-bit integers. Kernels are emitted by kernels/*.ts; this folder's other files check
 * shapes, lay out memory and call them.
 *
 * A row's result is the same to the bit whatever else is in the batch, however its prompt was cut
 * into chunks and wherever its pages lie: every kernel fixes its order of additions by that row
 * alone, and no instruction is used where the engine may choose its result.
 */
import { ClosedError } from "../../errors.ts";
import { type Backend, fullKvSupport, type Tensor } from "../backend.ts";
import { elements } from "../cpu/tensor.ts";
import { SHARED_WORK } from "./cut.ts";
import { canDraw } from "./draws.ts";
import { Heap } from "./heap.ts";
import { hasRelaxedSimd, hasSimd, instantiate, isRelaxed, kernelModule } from "./kernels/mod.ts";
import { pageBytesOf, WasmKvPool } from "./kv_pool.ts";
import { createOps, type DrawResults } from "./ops.ts";
import { summariesOf } from "./row_summaries.ts";
import { asRows } from "./rows.ts";
import type { Step } from "./step.ts";
import { canShare, Team } from "./team.ts";
import { Scope, type WasmTensor, wasmTensor } from "./tensor.ts";
import { tensorBytes, upload, uploadBlocks, uploadRows } from "./upload.ts";

export { WasmKvPool } from "./kv_pool.ts";

/** Whether the backend works here: it needs 128-bit SIMD. */
export const isWasmSupported = hasSimd;

/** Settings of the backend. */
export interface WasmBackendOptions {
  /** Limit of memory in pages of 64 KiB. @default all that 32-bit addresses reach, 4 GiB */
  readonly maxPages?: number;
  /**
   * Whether quantised weights use relaxed SIMD. It changes speed and no result.
   * @default whether the engine has it
   */
  readonly relaxedSimd?: boolean;
  /**
   * The kernels, compiled, for platforms that compile nothing at run time: one of the files in
   * `built/` (`deno task wasm:build`), imported by the bundle. `relaxedSimd` is then ignored, and
   * `threads` is 1.
   * @default emitted and compiled here
   */
  readonly module?: WebAssembly.Module;
  /**
   * Threads that multiply, the caller's included. Further ones are Workers and join when they have
   * started. Their number changes speed and no result. Platforms without Workers or shared memory
   * use one, whatever is asked for.
   * @default 1
   */
  readonly threads?: number;
  /**
   * Four bytes that the backends of a process share to know how many of them compute: each then uses
   * fewer threads while others do. @default each uses all of its threads
   */
  readonly running?: SharedArrayBuffer;
  /** Multiplications from which on an op is shared by threads. @default where it begins to pay */
  readonly sharedWork?: number;
}

/** What only this backend can tell. */
export interface WasmBackend extends Backend {
  /** Threads that would take part in an op now: Workers join when they have started. */
  readonly threads: number;
}

/**
 * Opens the backend with a memory of its own, which goes when nothing refers to it any more.
 *
 * @throws {RangeError} if `threads` is not 1 to 16
 * @throws {WebAssembly.CompileError} without 128-bit SIMD, see {@link isWasmSupported}
 * @throws {TypeError | WebAssembly.LinkError} if `module` is not one of this version's kernels
 */
export function createWasmBackend(
  options: WasmBackendOptions = {},
): WasmBackend {
  const { maxPages, threads = 1, sharedWork = SHARED_WORK } = options;
  const shared = options.module === undefined && threads > 1 && canShare();
  const heap = new Heap(maxPages, shared);
  const scope = new Scope(heap);
  const module = options.module ??
    kernelModule({ relaxed: options.relaxedSimd ?? hasRelaxedSimd(), shared });
  const kernels = instantiate(module, heap.memory);
  const team = new Team(heap, module, kernels, {
    threads: shared ? threads : Math.min(threads, 1),
    running: options.running,
  });
  const step: Step = { heap, scope, kernels, relaxed: isRelaxed(module), team, sharedWork };
  const drawn: DrawResults = new WeakMap();
  const ops = createOps(step, drawn);
  let closed = false;
  const requireOpen = (): void => {
    if (closed) throw new ClosedError("The backend was closed");
  };
  return {
    name: "wasm",
    get threads() {
      return team.size;
    },
    limits: { maxBindingBytes: heap.maxPages * 65_536, f16: false, subgroups: false },
    kv: fullKvSupport,
    tensor(label, shape, dtype, data) {
      requireOpen();
      if (dtype === "f32") return upload(heap, label, shape, data);
      if (dtype !== "q8" && dtype !== "q4") {
        throw new TypeError(
          `Cannot make tensor ${label}: the backend has f32, q8 and q4, not ${dtype}`,
        );
      }
      const values = data ?? new Float32Array(elements(label, shape));
      return uploadBlocks(step, label, shape, dtype, values);
    },
    quantized(label, shape, dtype, bytes) {
      requireOpen();
      return uploadBlocks(step, label, shape, dtype, bytes);
    },
    streamed(label, shape, dtype, source) {
      requireOpen();
      if (dtype === "f16") throw new TypeError(`Cannot make tensor ${label}: no f16 here`);
      if (dtype !== "f32") return uploadBlocks(step, label, shape, dtype, source);
      if (source.kind !== "f32") {
        throw new TypeError(`Cannot make tensor ${label}: f32 from blocks`);
      }
      return uploadRows(heap, label, shape, source.rows);
    },
    kvPool: (layout, pages) => new WasmKvPool(heap, layout, pages),
    canDraw,
    drawn: (result) => Promise.resolve(drawn.get(result) ?? []),
    record: (build) => team.computing(() => scope.run(() => build(ops))),
    read: (tensor) => new Promise((resolve) => resolve(read(step, tensor))),
    capacity: {
      bytes: heap.maxPages * 65_536,
      tensorBytes,
      kvBytes: (layout, pages) => pages * pageBytesOf(layout),
    },
    view: (tensor) => view(wasmTensor("view", tensor, heap)),
    summarise: (logits, vocab, asks) =>
      team.computing(() =>
        scope.run(() => summariesOf(step, wasmTensor("summarise", logits, heap), vocab, asks))
      ),
    [Symbol.dispose]() {
      closed = true;
      team[Symbol.dispose]();
    },
  };
}

function read(step: Step, tensor: Tensor): Float32Array {
  const source = wasmTensor("read", tensor, step.heap);
  if (source.layout === "rows") return view(source).slice();
  return step.scope.run(() => view(asRows(step, "read", source)).slice());
}

function view(tensor: WasmTensor): Float32Array {
  if (tensor.layout !== "rows") {
    throw new TypeError(`Tensor ${tensor.label} has no rows to look at`);
  }
  const start = tensor.address / 4;
  return tensor.heap.floats.subarray(start, start + elements(tensor.label, tensor.shape));
}
