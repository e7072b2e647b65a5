/**
 * Recorder: collects the dispatches of a step, gives their results memory, and encodes them as one
 * compute pass.
 *
 * Results are virtual until the step is complete. Then each gets a buffer at its first use and
 * returns it after its last, so a step needs the memory of what is alive at one time. The order is
 * fixed, so equal steps get equal buffers and find their bind groups in the cache.
 */
import { packParams } from "../../../shaders/mod.ts";
import type { GpuBuffer, Memory } from "./memory.ts";
import { aligned } from "./memory.ts";
import type { Pipeline } from "./pipelines.ts";
import type { StepData } from "./step_data.ts";

/** Memory for results: virtual while a step is recorded. */
export class Result {
  buffer: GpuBuffer | undefined;
  /** Kept after the step, until it is freed. */
  isKept = false;

  constructor(readonly bytes: number) {}
}

/** What a binding points to: a range of a buffer or result, or the step's data. */
export interface Target {
  readonly memory: GpuBuffer | Result | "step_data";
  readonly offset: number;
  readonly size: number;
}

/** The step's data as a binding. */
export const stepData: Target = { memory: "step_data", offset: 0, size: 0 };

/** All of a result, or a range of it. */
export function target(memory: GpuBuffer | Result, offset: number, size: number): Target {
  return { memory, offset, size: aligned(size) };
}

/** A dispatch as it is encoded; several in a row make a step that can be run again. */
export interface Dispatch {
  /** Name of the kernel. */
  readonly kernel: string;
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly x: number;
  readonly y: number;
  readonly z: number;
}

interface Command {
  readonly pipeline: Pipeline;
  readonly params: readonly number[];
  readonly targets: readonly Target[];
  readonly size: readonly [x: number, y: number, z: number];
}

/** Parameter blocks are 256 bytes apart, as bindings have to be. */
const PARAM_BLOCKS = 1024;
const MAX_GROUPS = 65_535;

/** See file comment. */
export class Recorder {
  readonly #device: GPUDevice;
  readonly #memory: Memory;
  readonly #data: StepData;
  #commands: Command[] = [];
  readonly #groups = new Map<string, GPUBindGroup>();
  /** Buffer id -> keys of bind groups that hold it. */
  readonly #users = new Map<number, Set<string>>();
  readonly #params = new Map<string, { readonly buffer: GpuBuffer; readonly offset: number }>();
  readonly #paramBuffers: GpuBuffer[] = [];
  #paramCount = 0;

  constructor(device: GPUDevice, memory: Memory, data: StepData) {
    this.#device = device;
    this.#memory = memory;
    this.#data = data;
  }

  /** Dispatches recorded and not yet encoded. */
  get pending(): number {
    return this.#commands.length;
  }

  /** Bind groups and parameter blocks held, for tests of growth. */
  get cached(): { readonly groups: number; readonly params: number } {
    return { groups: this.#groups.size, params: this.#params.size };
  }

  /**
   * @param targets in the order of the kernel's bindings, without params
   * @throws {RangeError} if a dispatch is too large
   */
  dispatch(
    pipeline: Pipeline,
    params: readonly number[],
    targets: readonly Target[],
    size: readonly [x: number, y: number, z: number],
  ): void {
    if (size.some((groups) => groups > MAX_GROUPS)) {
      throw new RangeError(
        `Kernel ${pipeline.spec.name} cannot run on ${size.join(" x ")} workgroups at once`,
      );
    }
    if (size.includes(0)) return;
    this.#commands.push({ pipeline, params, targets, size });
  }

  /** Drops what was recorded, after an error. */
  drop(): void {
    this.#commands = [];
  }

  /** Assigns memory and encodes everything recorded. */
  encode(encoder: GPUCommandEncoder): readonly Dispatch[] {
    const commands = this.#commands;
    this.#commands = [];
    if (this.#paramCount + commands.length > PARAM_BLOCKS * PARAM_BUFFERS) this.#dropParams();
    const data = this.#data.flush();
    const last = new Map<Result, number>();
    commands.forEach(({ targets }, i) => {
      for (const { memory } of targets) if (memory instanceof Result) last.set(memory, i);
    });
    const dispatches = commands.map((command, i) => {
      for (const { memory } of command.targets) {
        if (memory instanceof Result) memory.buffer ??= this.#memory.lend(memory.bytes);
      }
      const group = this.#group(command, data);
      for (const { memory } of command.targets) {
        if (!(memory instanceof Result) || last.get(memory) !== i || memory.isKept) continue;
        this.release(memory);
      }
      const [x, y, z] = command.size;
      const { spec: { name: kernel }, pipeline } = command.pipeline;
      return { kernel, pipeline, group, x, y, z };
    });
    run(encoder, dispatches);
    return dispatches;
  }

  /** A dispatch on top of an encoded step, whose data and results stay as they are. */
  prepare(
    pipeline: Pipeline,
    params: readonly number[],
    targets: readonly Target[],
    size: readonly [x: number, y: number, z: number],
  ): Dispatch {
    const group = this.#group({ pipeline, params, targets, size }, this.#data.buffer!);
    const [x, y, z] = size;
    return { kernel: pipeline.spec.name, pipeline: pipeline.pipeline, group, x, y, z };
  }

  /** Frees the memory of a result. */
  release(result: Result): void {
    if (result.buffer !== undefined) this.#memory.give(result.buffer);
    result.buffer = undefined;
  }

  /** Forgets bind groups of a buffer that is destroyed. */
  forget({ id }: GpuBuffer): void {
    for (const key of this.#users.get(id) ?? []) this.#groups.delete(key);
    this.#users.delete(id);
  }

  #group(command: Command, data: GpuBuffer): GPUBindGroup {
    const { pipeline, targets } = command;
    const params = this.#block(command);
    let key = `${pipeline.id} ${params.buffer.id}+${params.offset}`;
    const bound = targets.map(({ memory, offset, size }) => {
      const buffer = memory === "step_data"
        ? data
        : memory instanceof Result
        ? memory.buffer!
        : memory;
      const bytes = memory === "step_data" ? data.size : Math.min(size, buffer.size - offset);
      key += ` ${buffer.id}+${offset}:${bytes}`;
      return { buffer, offset, size: bytes };
    });
    let group = this.#groups.get(key);
    if (group === undefined) {
      bound.unshift({ buffer: params.buffer, offset: params.offset, size: ALIGNED_PARAMS });
      group = this.#device.createBindGroup({
        label: pipeline.spec.name,
        layout: pipeline.layout,
        entries: bound.map(({ buffer, offset, size }, binding) => ({
          binding,
          resource: { buffer: buffer.raw, offset, size },
        })),
      });
      this.#groups.set(key, group);
      for (const { buffer: { id } } of bound) {
        const users = this.#users.get(id);
        if (users === undefined) this.#users.set(id, new Set([key]));
        else users.add(key);
      }
    }
    return group;
  }

  /** Equal parameters share a block that is written once. */
  #block({ pipeline: { spec }, params }: Command) {
    const key = `${spec.name} ${params.join(" ")}`;
    let block = this.#params.get(key);
    if (block === undefined) {
      const at = this.#paramCount++;
      const index = Math.floor(at / PARAM_BLOCKS);
      this.#paramBuffers[index] ??= this.#memory.buffer(
        "params",
        PARAM_BLOCKS * ALIGNED_PARAMS,
        GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
      );
      block = { buffer: this.#paramBuffers[index]!, offset: (at % PARAM_BLOCKS) * ALIGNED_PARAMS };
      this.#device.queue.writeBuffer(block.buffer.raw, block.offset, packParams(spec, params));
      this.#params.set(key, block);
    }
    return block;
  }

  /** Blocks of all shapes there ever were would grow without bound. Their bind groups go with them. */
  #dropParams(): void {
    for (const buffer of this.#paramBuffers.splice(0)) this.#memory.retire(buffer);
    this.#params.clear();
    this.#paramCount = 0;
  }
}

const ALIGNED_PARAMS = 256;
const PARAM_BUFFERS = 16;

/** Encodes dispatches as one pass. */
export function run(encoder: GPUCommandEncoder, dispatches: readonly Dispatch[]): void {
  if (dispatches.length === 0) return;
  const pass = encoder.beginComputePass({ label: "step" });
  let current: GPUComputePipeline | undefined;
  for (const { pipeline, group, x, y, z } of dispatches) {
    if (pipeline !== current) pass.setPipeline(current = pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(x, y, z);
  }
  pass.end();
}
