/** The backend itself: memory, steps and what comes back from them. */
import { ClosedError } from "../../errors.ts";
import {
  type Backend,
  type DrawSpec,
  type KvSupport,
  type LogitsAsk,
  type Ops,
  type RowSource,
  type StepSize,
  type Tensor,
  type Told,
} from "../backend.ts";
import { elements } from "../cpu/tensor.ts";
import type { Gpu } from "./device.ts";
import { canDraw, drawnFrom } from "./draws.ts";
import { createPoolHost, type PoolHost, supportOf } from "./kv_host.ts";
import { GpuKvPool, pageBytesOf } from "./kv_pool.ts";
import { type GpuBuffer, Memory } from "./memory.ts";
import type { GpuBackend, GpuBackendOptions } from "./mod.ts";
import { createOps } from "./ops.ts";
import { type Pipelines, pipelinesOf } from "./pipelines.ts";
import { Readback } from "./readback.ts";
import { type Dispatch, Recorder } from "./recorder.ts";
import { RopeTables } from "./rope_table.ts";
import { RowTables } from "./row_table.ts";
import { runAhead } from "./run_ahead.ts";
import { Stage } from "./stage.ts";
import { StepData } from "./step_data.ts";
import { Submissions } from "./submissions.ts";
import { canTell, summariesFrom } from "./tells.ts";
import { collectTensors, GpuTensor, gpuTensor, rangesOf } from "./tensor.ts";
import { type Source, sourceOf, tensorBytes, uploadShards } from "./weights.ts";

const NO_LIMIT = 2 ** 40;
/** Fewer tokens fill too few workgroups of the tiled kernels. To be tuned on GPUs. */
const TILES_FROM = 32;
/** Enough rows to fill a GPU, and not so many that a long prompt holds up running streams for long. */
const HARDWARE_STEPS: StepSize = { stepTokens: 512, chunkTokens: 256 };

/** See mod.ts. */
export class WebGpuBackend implements GpuBackend {
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
  readonly #host: PoolHost;
  readonly #ops: Ops;
  readonly #submissions: Submissions;
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
    this.#submissions = new Submissions(gpu, this.#memory, this.#recorder, this.#readback);
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
    this.#host = createPoolHost(this.#stage, this.#submissions, this);
    this.#ops = createOps(this.#stage, this.#host);
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
      used: this.#memory.used,
      tensorBytes,
      kvBytes: (layout: GpuKvPool["layout"], pages: number) =>
        pages * pageBytesOf(layout, this.isHalf),
    };
  }

  get lost(): Promise<string> {
    return this.gpu.lost;
  }

  get lastStep(): readonly Dispatch[] {
    return this.#submissions.lastStep;
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
    return new GpuKvPool(this.#host, layout, pages);
  }

  record<T>(build: (ops: Ops) => T): T {
    this.#requireOpen();
    this.#submissions.submit();
    this.#stage.begin();
    const kept = new Set<GpuTensor>();
    let isDone = false;
    try {
      const result = build(this.#ops);
      collectTensors(result, kept);
      for (const tensor of kept) this.#keep(tensor);
      this.#submissions.encode();
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
      places.map((place) => {
        this.#requireOpen();
        return this.#submissions.read(place);
      }),
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

  readonly #runAhead: Backend["runAhead"] = (step, draws, times) =>
    runAhead(this.#stage, this.#submissions, step, draws, times);

  [Symbol.dispose](): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#submissions.drop();
    this.#readback[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
    if (this.#options.ownsGpu) this.gpu[Symbol.dispose]();
  }

  #requireOpen(): void {
    if (this.#isClosed) throw new ClosedError("The backend was closed");
    this.gpu.check();
  }

  #upload(label: string, shape: readonly number[], dtype: Tensor["dtype"], source: Source) {
    this.#requireOpen();
    this.#submissions.submit(); // uploads overtake commands that are not submitted
    const { device } = this.gpu;
    const host = { memory: this.#memory, device, bindingBytes: this.bindingBytes };
    const shards = uploadShards(host, label, shape, dtype, source);
    return new GpuTensor(this.#stage, label, [...shape], dtype, { kind: "shards", shards }, () => {
      this.#submissions.submit();
      for (const { range } of shards) range[Symbol.dispose]();
    });
  }

  #keep(tensor: GpuTensor): void {
    tensor.compute();
    const { storage } = tensor;
    if (storage.kind === "slice") storage.slice.result.isKept = true;
  }
}
