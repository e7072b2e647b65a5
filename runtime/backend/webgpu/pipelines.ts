/** Compiled kernels of one device, by name and constants; all backends on a device share them. */
import { type Constants, type KernelSpec, specialize } from "../../../shaders/mod.ts";
import { EngineError } from "../../errors.ts";
import type { Gpu } from "./device.ts";

/** A compiled variant of a kernel. */
export interface Pipeline {
  readonly spec: KernelSpec;
  /** Numbered, for keys. */
  readonly id: number;
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
}

/** See file comment. Compiling is synchronous in Deno, about 1 ms a variant. */
export class Pipelines {
  readonly #device: GPUDevice;
  readonly #subgroupPrefix: string;
  readonly #modules = new Map<
    KernelSpec,
    { module: GPUShaderModule; layout: GPUBindGroupLayout }
  >();
  readonly #pipelines = new Map<KernelSpec, Map<string, Pipeline>>();
  #count = 0;

  /** @param subgroupPrefix what stands before kernels with subgroup operations */
  constructor(device: GPUDevice, subgroupPrefix = "") {
    this.#device = device;
    this.#subgroupPrefix = subgroupPrefix;
  }

  /** Variants compiled so far. */
  get count(): number {
    return this.#count;
  }

  /** @throws {RangeError} if the kernel has no such variant */
  get(spec: KernelSpec, constants: Constants = {}): Pipeline {
    let variants = this.#pipelines.get(spec);
    if (variants === undefined) this.#pipelines.set(spec, variants = new Map());
    let key = "";
    for (const name in constants) key += `${name}=${constants[name]} `;
    let pipeline = variants.get(key);
    if (pipeline === undefined) {
      variants.set(key, pipeline = this.#compile(spec, specialize(spec, constants), key));
    }
    return pipeline;
  }

  #compile(spec: KernelSpec, constants: Constants, key: string): Pipeline {
    const { module, layout } = this.#module(spec);
    const label = `${spec.name} ${key}`.trim();
    const pipeline = this.#device.createComputePipeline({
      label,
      layout: this.#device.createPipelineLayout({ label, bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: "main", constants: { ...constants } },
    });
    return { spec, id: this.#count++, pipeline, layout };
  }

  #module(spec: KernelSpec) {
    let known = this.#modules.get(spec);
    if (known === undefined) {
      const code = (spec.usesSubgroups ? this.#subgroupPrefix : "") + spec.source;
      const module = this.#device.createShaderModule({ label: spec.name, code });
      const types = { params: "uniform", read: "read-only-storage", write: "storage" } as const;
      const layout = this.#device.createBindGroupLayout({
        label: spec.name,
        entries: spec.bindings.map(([, kind], binding) => ({
          binding,
          visibility: GPUShaderStage.COMPUTE,
          buffer: { type: types[kind] },
        })),
      });
      this.#modules.set(spec, known = { module, layout });
    }
    return known;
  }
}

const byDevice = new WeakMap<GPUDevice, Pipelines>();

/** The kernels of a device. */
export function pipelinesOf({ device, subgroupPrefix }: Gpu): Pipelines {
  let pipelines = byDevice.get(device);
  if (pipelines === undefined) {
    byDevice.set(device, pipelines = new Pipelines(device, subgroupPrefix));
  }
  return pipelines;
}

/**
 * Compiles a kernel and waits for what the compiler says.
 *
 * @throws {EngineError} naming the kernel, line and column
 */
export async function checkKernel(device: GPUDevice, spec: Pick<KernelSpec, "name" | "source">) {
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ label: spec.name, code: spec.source });
  const { messages } = await module.getCompilationInfo();
  const failure = await device.popErrorScope();
  const error = messages.find((message) => message.type === "error");
  if (error !== undefined) {
    throw new EngineError(
      `Cannot compile kernel ${spec.name}, line ${error.lineNum}, column ${error.linePos}: ${error.message}`,
    );
  }
  if (failure !== null) {
    throw new EngineError(`Cannot compile kernel ${spec.name}: ${failure.message}`);
  }
}
