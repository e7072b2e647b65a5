/** Chooses where models run. Adding a backend = one line in `backends`. */
import { BackendError, NotFoundError } from "../errors.ts";
import type { Backend } from "./backend.ts";
import { createCpuBackend } from "./cpu/mod.ts";
import { createWasmBackend, isWasmSupported } from "./wasm/mod.ts";
import { createGpuBackend, openGpu, probe, type ReadbackMode } from "./webgpu/mod.ts";

/** Settings of the WebGPU backend; plain data. */
export interface GpuSettings {
  /** Bytes of GPU memory one model may take. @default no limit but the device's */
  readonly memoryBytes?: number;
  /** @default "ring" */
  readonly readback?: ReadbackMode;
  /** How keys and values are held. @default "f32" */
  readonly kv?: "f32" | "f16";
}

/** Settings of all backends; each takes its own. */
export interface BackendSettings extends GpuSettings {
  /** Threads of the WebAssembly backend. @default 1 */
  readonly threads?: number;
  /** What its teams of threads share, see `WasmBackendOptions.running`. */
  readonly running?: SharedArrayBuffer;
}

/** Why a backend cannot run here. */
interface Unavailable {
  readonly reason: string;
  /** Nothing is wrong: most machines are like that. */
  readonly isUsual?: boolean;
}

type Open = (settings: BackendSettings, isForced: boolean) => Promise<Backend | Unavailable>;

/** Name -> how to open it, fastest first. */
const backends: Readonly<Record<string, Open>> = {
  webgpu: openWebGpu,
  wasm: ({ threads = 1, running }) =>
    Promise.resolve(
      isWasmSupported()
        ? createWasmBackend({ threads, ...running === undefined ? {} : { running } })
        : { reason: "there is no 128-bit SIMD" },
    ),
  cpu: () => Promise.resolve(createCpuBackend()),
};

/**
 * Opens a backend by name; "auto" takes the first one that works here: a GPU only if it is none that
 * a driver imitates on the CPU, and only if it computes the probes right.
 *
 * @param onSkip told why "auto" passed over a backend that one would expect to work
 * @throws {NotFoundError} if there is no such backend in this build
 * @throws {BackendError} if it cannot run here, saying why
 */
export async function selectBackend(
  name: string,
  settings: BackendSettings = {},
  onSkip: (backend: string, reason: string) => void = () => {},
): Promise<Backend> {
  const isForced = name !== "auto";
  if (isForced && !Object.hasOwn(backends, name)) {
    throw new NotFoundError("backend", name, ["auto", ...Object.keys(backends)]);
  }
  for (const candidate of isForced ? [name] : Object.keys(backends)) {
    const backend = await backends[candidate]!(settings, isForced);
    if (!("reason" in backend)) return backend;
    if (isForced) throw new BackendError(name, backend.reason);
    if (!backend.isUsual) onSkip(candidate, backend.reason);
  }
  throw new BackendError("auto", "none works here");
}

/** Where an adapter is missing, what to do about it. */
const INSTALL =
  "no GPU adapter was found; install a Vulkan driver (NVIDIA: the vendor's driver and " +
  "libvulkan1; AMD, Intel, or a CPU for trying out: mesa-vulkan-drivers on Debian and Ubuntu)";

async function openWebGpu(
  { memoryBytes, readback, kv = "f32" }: GpuSettings,
  isForced: boolean,
): Promise<Backend | Unavailable> {
  const gpu = await openGpu({ allowSoftware: isForced });
  if (gpu === undefined) {
    return { reason: isForced ? INSTALL : "no hardware adapter was found", isUsual: true };
  }
  if (kv === "f16" && !gpu.info.features.includes("shader-f16")) {
    gpu[Symbol.dispose]();
    return { reason: `the adapter ${gpu.info.adapter} has no f16, which gpu_kv asks for` };
  }
  const backend = createGpuBackend(gpu, {
    kv,
    ...memoryBytes === undefined ? {} : { memoryBytes },
    ...readback === undefined ? {} : { readback },
    ownsGpu: true,
  });
  const wrong = await probe(backend);
  if (wrong === undefined) return backend;
  backend[Symbol.dispose]();
  return { reason: `the adapter ${gpu.info.adapter} is wrong: ${wrong}` };
}
