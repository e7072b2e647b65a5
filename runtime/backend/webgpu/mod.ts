/**
 * The WebGPU backend. Ops record dispatches; `record` submits them as one compute pass; `read` adds
 * a copy to the same submission where it follows at once.
 *
 * A row's result is the same to the bit whatever else is in the batch, however its prompt was cut
 * into chunks and wherever its pages lie: every kernel fixes its order of additions by that row
 * alone. On another GPU or driver the bits may differ.
 */
import { ClosedError } from "../../errors.ts";
import { advance, gatherRows as gatherKernel } from "../../../shaders/mod.ts";
import {
  type AheadStep,
  type Backend,
  type DrawSpec,
  fullKvSupport,
  type KvSupport,
  type LogitsAsk,
  type Ops,
  type RowSource,
  type StepSize,
  type Tensor,
  type Told,
} from "../backend.ts";
import { elements } from "../cpu/tensor.ts";
import { attention, kvWrite } from "./attention.ts";
import type { Gpu } from "./device.ts";
import { canDraw, draw, drawnFrom } from "./draws.ts";
import { kvCopy, kvEncode } from "./kv_copy.ts";
import { kvRecord } from "./kv_record.ts";
import { GpuKvPool, gpuPool, pageBytesOf, type PoolHost } from "./kv_pool.ts";
import { linear } from "./linear.ts";
import { type GpuBuffer, Memory } from "./memory.ts";
import { type Pipelines, pipelinesOf } from "./pipelines.ts";
import { type Copy, Readback, type ReadbackMode } from "./readback.ts";
import { type Dispatch, Recorder, run, stepData, target } from "./recorder.ts";
import { RopeTables } from "./rope_table.ts";
import { add, embed, gatherRows, rmsNorm, rope, swiglu } from "./rows.ts";
import { RowTables } from "./row_table.ts";
import { Stage } from "./stage.ts";
import { StepData } from "./step_data.ts";
import { collectTensors, GpuTensor, gpuTensor, type Storage } from "./tensor.ts";
import { canTell, summariesFrom, tell } from "./tells.ts";
import { type Source, sourceOf, tensorBytes, uploadShards } from "./weights.ts";

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

const NO_LIMIT = 2 ** 40;
/** Fewer tokens fill too few workgroups of the tiled kernels. To be tuned on GPUs. */
const TILES_FROM = 32;
/** Enough rows to fill a GPU, and not so many that a long prompt holds up running streams for long. */
const HARDWARE_STEPS: StepSize = { stepTokens: 512, chunkTokens: 256 };

/** Opens the backend on a GPU that stays the caller's, unless `ownsGpu`. */
export function createGpuBackend(gpu: Gpu, options: GpuBackendOptions = {}): GpuBackend {
  return new WebGpuBackend(gpu, options);
}

/** What policies may ask for; pages in f16 know no other formats, and no kernels choose among them. */
function supportOf(isHalf: boolean): KvSupport {
  const { granularities, formats, signals, reads } = fullKvSupport;
  return {
    granularities,
    formats: isHalf ? [] : formats,
    signals,
    adapters: true,
    reads: isHalf ? [] : reads,
    readSlots: true,
    sight: !isHalf,
    turns: true,
  };
}

class WebGpuBackend implements GpuBackend, PoolHost {
  readonly name = "webgpu";
  readonly kv: KvSupport;
  readonly isHalf: boolean;
  readonly gpu: Gpu;
  readonly limits: Backend["limits"];
  readonly bindingBytes: number;
  readonly #options: GpuBackendOptions;
  readonly #memory: Memory;
  readonly #recorder: Recorder;
  readonly #pipelines: Pipelines;
  readonly #readback: Readback;
  readonly #stage: Stage;
  readonly #ops: Ops;
  #encoder: GPUCommandEncoder | undefined;
  #lastStep: readonly Dispatch[] = [];
  #isClosed = false;

  constructor(gpu: Gpu, options: GpuBackendOptions) {
    this.gpu = gpu;
    this.#options = options;
    this.bindingBytes = Math.min(gpu.bindingBytes, options.bindingBytes ?? Infinity);
    this.isHalf = options.kv === "f16";
    this.kv = supportOf(this.isHalf);
    this.limits = {
      maxBindingBytes: this.bindingBytes,
      f16: gpu.info.features.includes("shader-f16"),
      subgroups: gpu.subgroupPrefix !== undefined && options.subgroups !== false,
    };
    if (this.isHalf && !this.limits.f16) {
      throw new TypeError(`The adapter ${gpu.info.adapter} has no f16 for keys and values`);
    }
    const { device } = gpu;
    const forget = (buffer: GpuBuffer) => this.#recorder.forget(buffer);
    this.#memory = new Memory(device, options.memoryBytes ?? NO_LIMIT, this.bindingBytes, forget);
    const data = new StepData(this.#memory, device.queue);
    this.#recorder = new Recorder(device, this.#memory, data);
    this.#pipelines = pipelinesOf(gpu);
    this.#readback = new Readback(gpu, options.readback ?? "ring");
    this.#stage = new Stage(
      gpu,
      this.#memory,
      data,
      this.#recorder,
      this.#pipelines,
      new RowTables(data),
      new RopeTables(this.#memory, device.queue),
      options.fuses ?? true,
      options.tilesFrom ?? TILES_FROM,
      this.limits.subgroups,
    );
    this.#ops = createOps(this.#stage, this);
  }

  get details() {
    const { adapter, isSoftware, features } = this.gpu.info;
    return {
      adapter,
      software: isSoftware,
      features: features.join(" "),
      readback: this.#readback.mode,
      kv: this.isHalf ? "f16" : "f32",
      memory_bytes: this.#options.memoryBytes ?? 0,
      used_bytes: this.#memory.used,
    };
  }

  get steps(): StepSize | undefined {
    return this.#options.steps ?? (this.gpu.info.isSoftware ? undefined : HARDWARE_STEPS);
  }

  get capacity() {
    return {
      bytes: this.#options.memoryBytes ?? NO_LIMIT,
      tensorBytes,
      kvBytes: (layout: GpuKvPool["layout"], pages: number) =>
        pages * pageBytesOf(layout, this.isHalf),
    };
  }

  get lost(): Promise<string> {
    return this.gpu.lost;
  }

  get lastStep(): readonly Dispatch[] {
    return this.#lastStep;
  }

  readonly stats = () => ({
    bytes: this.#memory.used,
    stagingBytes: this.#readback.bytes,
    pipelines: this.#pipelines.count,
    ...this.#recorder.cached,
  });

  tensor(label: string, shape: readonly number[], dtype: Tensor["dtype"], data?: Float32Array) {
    const source: Source = data === undefined
      ? { kind: "zeros" }
      : sourceOf(label, shape, dtype, data);
    return this.#upload(label, shape, dtype, source);
  }

  quantized(label: string, shape: readonly number[], dtype: "q8" | "q4", bytes: Uint8Array) {
    return this.#upload(label, shape, dtype, sourceOf(label, shape, dtype, bytes));
  }

  streamed(
    label: string,
    shape: readonly [rows: number, cols: number],
    dtype: "f32" | "f16" | "q8" | "q4",
    source: RowSource,
  ) {
    return this.#upload(label, shape, dtype, source);
  }

  kvPool(layout: GpuKvPool["layout"], pages: number): GpuKvPool {
    this.#requireOpen();
    return new GpuKvPool(this, layout, pages);
  }

  record<T>(build: (ops: Ops) => T): T {
    this.#requireOpen();
    this.#submit();
    this.#stage.begin();
    const kept = new Set<GpuTensor>();
    let isDone = false;
    try {
      const result = build(this.#ops);
      collectTensors(result, kept);
      for (const tensor of kept) this.#keep(tensor);
      this.#encode();
      isDone = true;
      return result;
    } finally {
      if (!isDone) {
        this.#recorder.drop();
        for (const undo of this.#stage.undo) undo();
      }
      for (const tensor of this.#stage.end()) if (!kept.has(tensor)) tensor[Symbol.dispose]();
    }
  }

  async read(tensor: Tensor): Promise<Float32Array> {
    const source = gpuTensor("read", tensor, this.#stage);
    if (source.dtype !== "f32") throw new TypeError(`Cannot read ${source.label}: it is quantised`);
    const size = elements(source.label, source.shape);
    const places = rangesOf(source.storage);
    const parts = await Promise.all(
      places.map(({ buffer, offset, bytes }) => this.#read(buffer, offset, bytes)),
    );
    const out = new Float32Array(size);
    let at = 0;
    for (const bytes of parts) {
      const values = new Float32Array(bytes.buffer).subarray(0, size - at);
      out.set(values, at);
      at += values.length;
    }
    return out;
  }

  readonly canDraw = canDraw;

  readonly drawn = async (result: Tensor, draws: readonly DrawSpec[]) =>
    drawnFrom(await this.read(result), draws);

  readonly canTell = canTell;

  readonly told = async (result: Told, asks: readonly LogitsAsk[]) => {
    const read = (tensor: Tensor | undefined) => tensor && this.read(tensor);
    const [stats, top, ids, targets] = await Promise.all(
      [result.stats, result.top, result.ids, result.targets].map(read),
    );
    return summariesFrom({ stats, top, ids, targets }, asks);
  };

  get runAhead(): Backend["runAhead"] {
    return this.#readback.mode === "ring" ? this.#runAhead : undefined;
  }

  /** Each step is a submission of its own, so that the first results are ready first. */
  readonly #runAhead = (
    { tokens, positions, rows, result }: AheadStep,
    draws: readonly DrawSpec[],
    times: number,
  ) => {
    const { data, tables, draws: at, pipelines } = this.#stage;
    const stats = gpuTensor("run_ahead", result, this.#stage).target;
    const [tokensAt, positionsAt, table] = [
      data.find(tokens),
      data.find(positions),
      tables.find(rows),
    ];
    if (tokensAt === undefined || positionsAt === undefined || table === undefined || at === 0) {
      throw new RangeError("The step to run ahead of is not the last one that was recorded");
    }
    const count = rows.length;
    const step = this.#recorder.prepare(
      pipelines.get(advance),
      [count, tokensAt, positionsAt, table.rows, at],
      [stats, stepData],
      [Math.ceil(count / 64), 1, 1],
    );
    const { buffer, offset, bytes } = rangesOf(
      gpuTensor("run_ahead", result, this.#stage).storage,
    )[0]!;
    return Array.from({ length: times + 1 }, (_, i) => {
      const encoder = this.#encoder ?? this.gpu.device.createCommandEncoder({ label: "ahead" });
      this.#encoder = undefined;
      if (i > 0) run(encoder, [step, ...this.#lastStep]);
      const copy = this.#readback.copy(encoder, buffer.raw, offset, bytes);
      this.gpu.device.queue.submit([encoder.finish()]);
      const values = copy.read().then((data) => drawnFrom(new Float32Array(data.buffer), draws));
      values.catch(() => {}); // nobody may be waiting for it
      return values;
    });
  };

  [Symbol.dispose](): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#encoder = undefined;
    this.#readback[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
    if (this.#options.ownsGpu) this.gpu[Symbol.dispose]();
  }

  // What pools need.

  buffer(label: string, bytes: number): GpuBuffer {
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    return this.#memory.buffer(label, bytes, usage);
  }

  free(buffer: GpuBuffer): void {
    this.#submit();
    this.#memory.destroy(buffer);
  }

  retire(buffer: GpuBuffer): void {
    this.#memory.retire(buffer);
  }

  /** Only the rows that are asked for: a pool may hold gigabytes. */
  async gather(buffer: GpuBuffer, width: number, rows: Uint32Array): Promise<Float32Array> {
    if (rows.length === 0) return new Float32Array(0);
    const stage = this.#stage;
    using picked = this.record(() => {
      const y = stage.slice("gather", [rows.length, width]);
      stage.dispatch(
        gatherKernel,
        [width, stage.data.put(rows)],
        [target(buffer, 0, buffer.size), stepData, target(y.result, y.offset, y.bytes)],
        [Math.ceil(width / 64), rows.length, 1],
      );
      return stage.tensor("gather", [rows.length, width], y);
    });
    return await this.read(picked);
  }

  // Inside.

  #requireOpen(): void {
    if (this.#isClosed) throw new ClosedError("The backend was closed");
    this.gpu.check();
  }

  #upload(label: string, shape: readonly number[], dtype: Tensor["dtype"], source: Source) {
    this.#requireOpen();
    this.#submit(); // uploads overtake commands that are not submitted
    const { device } = this.gpu;
    const host = { memory: this.#memory, device, bindingBytes: this.bindingBytes };
    const shards = uploadShards(host, label, shape, dtype, source);
    return new GpuTensor(this.#stage, label, [...shape], dtype, { kind: "shards", shards }, () => {
      this.#submit();
      for (const { range } of shards) range[Symbol.dispose]();
    });
  }

  #keep(tensor: GpuTensor): void {
    tensor.compute();
    const { storage } = tensor;
    if (storage.kind === "slice") storage.slice.result.isKept = true;
  }

  #encode(): void {
    const encoder = this.gpu.device.createCommandEncoder({ label: "step" });
    this.#lastStep = this.#recorder.encode(encoder);
    this.#encoder = encoder;
    queueMicrotask(() => {
      if (this.#encoder === encoder) queueMicrotask(() => this.#submitIf(encoder));
    });
  }

  #submitIf(encoder: GPUCommandEncoder): void {
    if (this.#encoder === encoder) this.#submit();
  }

  #submit(): void {
    const encoder = this.#encoder;
    this.#encoder = undefined;
    if (encoder !== undefined) this.gpu.device.queue.submit([encoder.finish()]);
    this.#memory.sweep();
  }

  async #read(buffer: GpuBuffer, offset: number, bytes: number): Promise<Uint8Array<ArrayBuffer>> {
    this.#requireOpen();
    if (bytes === 0) return new Uint8Array(0);
    const encoder = this.#encoder ??= this.gpu.device.createCommandEncoder({ label: "read" });
    const copy: Copy = this.#readback.copy(encoder, buffer.raw, offset, bytes);
    await Promise.resolve(); // other reads of this step join the same submission
    if (this.#encoder === encoder) this.#submit();
    const data = await copy.read();
    this.gpu.check();
    return data;
  }
}

/** Where a tensor's values are, in order. */
function rangesOf(storage: Storage) {
  if (storage.kind === "pending") throw new ClosedError("The tensor was not computed");
  if (storage.kind === "slice") {
    const { result, offset, bytes } = storage.slice;
    return result.buffer === undefined ? [] : [{ buffer: result.buffer, offset, bytes }];
  }
  return storage.shards.map(({ range: { buffer, offset, size } }) => ({
    buffer,
    offset,
    bytes: size,
  }));
}

function createOps(stage: Stage, host: PoolHost): Ops {
  const own = (op: string, tensor: Tensor) => gpuTensor(op, tensor, stage);
  const ownAll = (op: string, tensors: ReadonlyMap<string, Tensor>) =>
    new Map([...tensors].map(([name, tensor]) => [name, own(op, tensor)]));
  return {
    embed: (table, tokens) => embed(stage, own("embed", table), tokens),
    rmsNorm: (x, weight, eps) => rmsNorm(stage, own("rms_norm", x), own("rms_norm", weight), eps),
    linear: (x, weight, bias) =>
      linear(stage, own("linear", x), own("linear", weight), bias && own("linear", bias)),
    add: (x, y) => add(stage, own("add", x), own("add", y)),
    swiglu: (gate, up) => swiglu(stage, own("swiglu", gate), own("swiglu", up)),
    rope: (x, positions, spec) => rope(stage, own("rope", x), positions, spec),
    kvWrite: (pool, layer, k, v, rows, slots) =>
      kvWrite(
        stage,
        gpuPool("kv_write", pool, host),
        layer,
        own("kv_write", k),
        own("kv_write", v),
        rows,
        slots,
      ),
    attention: (q, pool, layer, rows, options) =>
      attention(
        stage,
        own("attention", q),
        gpuPool("attention", pool, host),
        layer,
        rows,
        { ...options, queries: options.queries && ownAll("attention", options.queries) },
      ),
    draw: (logits, vocab, draws) => draw(stage, own("draw", logits), vocab, draws),
    tell: (logits, vocab, asks) => tell(stage, own("tell", logits), vocab, asks),
    gatherRows: (x, rows) => gatherRows(stage, own("gather_rows", x), rows),
    kvRecord: (pool, layer, signal, values, rows) =>
      kvRecord(
        stage,
        gpuPool("kv_record", pool, host),
        layer,
        signal,
        own("kv_record", values),
        rows,
      ),
    kvEncode: (pool, from, to, place) =>
      kvEncode(stage, gpuPool("kv_encode", pool, host), from, to, place),
    kvCopy: (pool, from, to, options) =>
      kvCopy(stage, gpuPool("kv_copy", pool, host), from, to, options),
  };
}
