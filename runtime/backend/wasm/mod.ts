/**
 * The WebAssembly backend: 128-bit SIMD, one thread or several, weights in f32 or as 8-bit or 4-bit integers.
 * Kernels are emitted by kernels/*.ts; this
 * folder's other files check shapes, lay out memory and call them.
 *
 * A row's result is the same to the bit whatever else is in the batch, however its prompt was cut
 * into chunks and wherever its pages lie: every kernel fixes its order of additions by that row
 * alone, and no instruction is used where the engine may choose its result.
 */
import { ClosedError, ShapeError } from "../../errors.ts";
import { type Backend, type Drawn, fullKvSupport, type Ops, type Tensor } from "../backend.ts";
import { gelu } from "../cpu/gelu.ts";
import { elements, matrix, sameShape } from "../cpu/tensor.ts";
import { attention } from "./attention.ts";
import { cut, SHARED_WORK } from "./cut.ts";
import { canDraw, draw } from "./draws.ts";
import { Heap } from "./heap.ts";
import { hasRelaxedSimd, hasSimd, instantiate, isRelaxed, kernelModule } from "./kernels/mod.ts";
import { kvEncode } from "../cpu/kv_copy.ts";
import { kvCopy, kvRecord, kvWrite } from "./kv.ts";
import { pageBytesOf, WasmKvPool, wasmPool } from "./kv_pool.ts";
import { linear } from "./linear.ts";
import { rope } from "./rope.ts";
import { summariesOf } from "./row_summaries.ts";
import { asRows, pickRows } from "./rows.ts";
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

/** Results of draws by the tensor that stands for them. */
type DrawResults = WeakMap<Tensor, readonly (Drawn | undefined)[]>;

function createOps(step: Step, drawn: DrawResults): Ops {
  const { heap, scope, team } = step;
  /** Checks a tensor that ops read row by row. */
  const rowsOf = (op: string, x: Tensor) => asRows(step, op, wasmTensor(op, x, heap));
  /** An op on each value by itself; works on the padding as well. */
  const elementwise =
    (op: "add" | "swiglu", work: number) => (x: Tensor, y: Tensor): WasmTensor => {
      sameShape(op, x, y);
      const a = rowsOf(op, x).address, b = rowsOf(op, y).address;
      const z = scope.alloc(op, x.shape);
      // Not all of its memory: a row has room for three more.
      const bytes = Math.ceil(elements(op, x.shape) / 4) * 16;
      const parts = cut(step, bytes, 64, work / 4)
        .map(({ from, count }) => [a + from, b + from, z.address + from, count]);
      team.run(op, parts);
      return z;
    };
  return {
    scoped: (build) => scope.within(build),
    embed: (table, tokens) =>
      pickRows(step, "embed", wasmTensor("embed", table, heap), tokens, "Token"),
    rmsNorm: (x, weight, eps) =>
      rmsNorm(step, rowsOf("rms_norm", x), wasmTensor("rms_norm", weight, heap), eps),
    linear: (x, weight, bias) =>
      linear(
        step,
        wasmTensor("linear", x, heap),
        wasmTensor("linear", weight, heap),
        bias && wasmTensor("linear", bias, heap),
      ),
    add: elementwise("add", 2),
    swiglu: elementwise("swiglu", 16),
    gelu(x) {
      const { address, shape } = rowsOf("gelu", x), y = scope.alloc("gelu", shape);
      const size = elements("gelu", shape), { floats } = heap;
      const valuesAt = (at: number) => floats.subarray(at / 4, at / 4 + size);
      gelu(valuesAt(address), valuesAt(y.address)); // few and small
      return y;
    },
    rope: (x, positions, spec) => rope(step, rowsOf("rope", x), positions, spec),
    kvWrite: (pool, layer, k, v, rows, slots) =>
      kvWrite(
        wasmPool("kv_write", pool, heap),
        layer,
        rowsOf("kv_write", k),
        rowsOf("kv_write", v),
        rows,
        slots,
      ),
    attention: (q, pool, layer, rows, options) =>
      attention(
        step,
        rowsOf("attention", q),
        wasmPool("attention", pool, heap),
        layer,
        rows,
        {
          scale: options.scale,
          signals: options.signals,
          queries: (name) => {
            const queries = options.queries?.get(name);
            return queries && rowsOf("attention", queries);
          },
        },
      ),
    draw(logits, vocab, draws) {
      const result = scope.alloc("draws", [1]);
      drawn.set(result, draw(step, rowsOf("draw", logits), vocab, draws));
      return result;
    },
    gatherRows: (x, rows) =>
      pickRows(step, "gather_rows", wasmTensor("gather_rows", x, heap), rows, "Row"),
    kvCopy: (pool, from, to, options) => kvCopy(wasmPool("kv_copy", pool, heap), from, to, options),
    kvEncode: (pool, from, to, place) =>
      kvEncode(wasmPool("kv_encode", pool, heap), from, to, place),
    kvRecord: (pool, layer, signal, values, rows, slots) =>
      kvRecord(
        wasmPool("kv_record", pool, heap),
        layer,
        signal,
        rowsOf("kv_record", values),
        rows,
        slots,
      ),
  };
}

/** x [rows, n * cols], weight [cols]; each run of `cols` columns is normalised by itself. */
function rmsNorm(step: Step, x: WasmTensor, weight: WasmTensor, eps: number): WasmTensor {
  const [rows, width] = matrix("rms_norm", x);
  const cols = weight.shape[0] ?? 0;
  if (weight.shape.length !== 1 || cols === 0 || width % cols !== 0) {
    throw new ShapeError(
      "rms_norm",
      `rows of ${width} columns do not divide into a weight of [${weight.shape.join(", ")}]`,
    );
  }
  const y = step.scope.alloc("rms_norm", x.shape);
  const count = rows * (width / cols);
  const parts = cut(step, count, 1, 4 * cols).map(({ from, count: some }) => [
    x.address + 4 * cols * from,
    weight.address,
    y.address + 4 * cols * from,
    some,
    cols,
    eps,
  ]);
  step.team.run("rmsNorm", parts);
  return y;
}
