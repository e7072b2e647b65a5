/**
 * The GPU of the tests: any adapter will do, a driver that computes on the CPU as well (Debian and
 * Ubuntu: `apt install mesa-vulkan-drivers`). Without one, tests are reported as ignored; where all
 * tests have to run (DECANT_REQUIRE_SHARED_DATA=1, as in CI) that is an error.
 */
import {
  createGpuBackend,
  type Gpu,
  type GpuBackend,
  type GpuBackendOptions,
  openGpu,
  type ReadbackMode,
} from "../runtime/backend/webgpu/mod.ts";

/** One device for the tests of a file; stays open until the process ends. */
export const gpu: Gpu | undefined = await openGpu();

if (gpu === undefined && Deno.env.get("DECANT_REQUIRE_SHARED_DATA") === "1") {
  throw new Error("DECANT_REQUIRE_SHARED_DATA=1 but there is no WebGPU adapter (Vulkan driver)");
}

/**
 * Mapping without a wait, which Deno 2.9.6 on Linux is known to allow; 11 ms a read otherwise.
 * DECANT_GPU_READBACK=ring runs everything ahead of the host instead.
 */
const readback = readbackOf(Deno.env.get("DECANT_GPU_READBACK"));

function readbackOf(setting: string | undefined): ReadbackMode {
  if (setting === "ring" || setting === "await") return setting;
  return Deno.version.deno === "2.9.6" && Deno.build.os === "linux" ? "fast" : "await";
}

/** A backend on the tests' GPU. */
export function createTestGpuBackend(options: GpuBackendOptions = {}): GpuBackend {
  if (gpu === undefined) throw new Error("there is no WebGPU adapter");
  return createGpuBackend(gpu, { readback, ...options });
}

/** A test that is reported as ignored, with the reason in its name, where there is no adapter. */
export function testWithGpu(name: string, fn: () => void | Promise<void>): void {
  Deno.test({
    name: gpu === undefined ? `${name} (ignored: no WebGPU adapter)` : name,
    ignore: gpu === undefined,
    fn,
  });
}
