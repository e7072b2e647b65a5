/**
 * The GPU: adapter, device, what it can do, and what went wrong on it.
 *
 * Limits are asked for, never assumed: what the adapter offers of the limits below is requested, and
 * everything else works within WebGPU's defaults.
 */
import { DeviceLostError, EngineError } from "../../errors.ts";
import { probeSubgroups } from "./subgroups.ts";

/** What an opened GPU says about itself; plain data. */
export interface GpuInfo {
  /** Name as the driver gives it. */
  readonly adapter: string;
  readonly driver: string;
  readonly vendor: string;
  /** A driver that computes on the CPU: good for tests, slower than the WASM backend. */
  readonly isSoftware: boolean;
  readonly features: readonly string[];
}

/** Settings of {@link openGpu}. */
export interface GpuOptions {
  /** Whether a driver that computes on the CPU will do. @default true */
  readonly allowSoftware?: boolean;
  /** Where WebGPU is. @default this runtime's */
  readonly gpu?: GPU | undefined;
}

const wantedLimits = [
  "maxStorageBufferBindingSize",
  "maxBufferSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
] as const;
/** Storage buffers that the largest kernel binds. */
const STORAGE_BUFFERS = 8;
const wantedFeatures = ["timestamp-query", "shader-f16"] as const;

/** An open device. Disposing destroys it and everything on it. */
export class Gpu implements Disposable {
  readonly device: GPUDevice;
  readonly info: GpuInfo;
  /** What stands before kernels with subgroup operations; undefined if the device has none that work. */
  readonly subgroupPrefix: string | undefined;
  #lost: string | undefined;
  #errors: string[] = [];
  readonly #onLost = new Set<(reason: string) => void>();
  /** Resolves with the reason when the device is lost, also by disposing it. */
  readonly lost: Promise<string>;
  readonly #resolveLost: (reason: string) => void;

  constructor(device: GPUDevice, info: GpuInfo, subgroupPrefix?: string) {
    this.device = device;
    this.info = info;
    this.subgroupPrefix = subgroupPrefix;
    const { promise, resolve } = Promise.withResolvers<string>();
    this.lost = promise;
    this.#resolveLost = resolve;
    device.lost.then(({ message, reason }) => this.#lose(message || reason || "unknown reason"));
    device.addEventListener("uncapturederror", (event) => {
      // The library's types do not say which event this is.
      const { message } = (event as Event & { readonly error: GPUError }).error;
      if (this.#errors.length < 8) this.#errors.push(message);
      event.preventDefault();
    });
  }

  /** @returns a function that ends the subscription */
  onLost(run: (reason: string) => void): () => void {
    this.#onLost.add(run);
    return () => this.#onLost.delete(run);
  }

  get isLost(): boolean {
    return this.#lost !== undefined;
  }

  /** Bytes one binding may span. */
  get bindingBytes(): number {
    return Math.min(
      this.device.limits.maxStorageBufferBindingSize,
      this.device.limits.maxBufferSize,
    );
  }

  /** @throws {DeviceLostError} if the device is gone @throws {EngineError} if it reported an error */
  check(): void {
    if (this.#lost !== undefined) throw new DeviceLostError(this.#lost);
    const [error] = this.#errors;
    if (error === undefined) return;
    this.#errors = [];
    throw new EngineError(`The GPU refused a command: ${error}`);
  }

  /** The error behind a rejected promise of the device. */
  async explain(error: unknown): Promise<Error> {
    // News of a loss may arrive after the errors it causes.
    if (!this.isLost) await new Promise((resolve) => setImmediate(resolve));
    try {
      this.check();
    } catch (known) {
      return known as Error;
    }
    return error instanceof Error ? error : new EngineError(String(error));
  }

  [Symbol.dispose](): void {
    this.device.destroy();
    this.#lose("destroyed");
  }

  #lose(reason: string): void {
    if (this.#lost !== undefined) return;
    this.#lost = reason;
    this.#resolveLost(reason);
    for (const run of this.#onLost) run(reason);
  }
}

/**
 * Opens the GPU with the most power.
 *
 * @returns undefined if there is none, or none that computes in hardware where that is asked for
 */
export async function openGpu(
  { allowSoftware = true, gpu = globalThis.navigator?.gpu }: GpuOptions = {},
): Promise<Gpu | undefined> {
  const adapter = await gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) return undefined;
  const { info } = adapter;
  const isSoftware = info.isFallbackAdapter ||
    /llvmpipe|lavapipe|swiftshader|software/i.test(info.description);
  if (isSoftware && !allowSoftware) return undefined;
  if (adapter.limits.maxStorageBuffersPerShaderStage < STORAGE_BUFFERS) return undefined;
  const requiredFeatures = wantedFeatures.filter((name) => adapter.features.has(name));
  const requiredLimits = Object.fromEntries(
    wantedLimits.map((name) => [name, adapter.limits[name]]),
  );
  const device = await requestDevice(adapter, requiredFeatures, requiredLimits);
  const prefix = device.features.has("subgroups") ? await probeSubgroups(device) : undefined;
  return new Gpu(device, {
    adapter: info.description || info.device,
    driver: info.architecture,
    vendor: info.vendor,
    isSoftware,
    features: prefix === undefined ? requiredFeatures : [...requiredFeatures, "subgroups"],
  }, prefix);
}

/** With subgroups where the adapter has them, which Deno's does not say but grants. */
async function requestDevice(
  adapter: GPUAdapter,
  features: readonly GPUFeatureName[],
  requiredLimits: Record<string, number>,
): Promise<GPUDevice> {
  try {
    const requiredFeatures = [...features, "subgroups" as GPUFeatureName];
    return await adapter.requestDevice({ requiredFeatures, requiredLimits });
  } catch {
    return await adapter.requestDevice({ requiredFeatures: [...features], requiredLimits });
  }
}
