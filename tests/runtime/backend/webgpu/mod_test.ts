import { GpuKvPool } from "../../../../runtime/backend/webgpu/mod.ts";
import { testBackend } from "../../../conformance/backend.ts";
import { createTestGpuBackend, gpu, testWithGpu } from "../../../_webgpu.ts";

if (gpu === undefined) testWithGpu("WebGPU backend: laws", () => {});
else {
  testBackend("WebGPU", () => createTestGpuBackend(), {
    /**
     * f32 sums: chains of at most terms / 8 additions and a tree, plus roundings of products,
     * exponentials, divisions and the store.
     */
    roundings: (terms) => terms / 4 + 16,
    readSignal: (pool, signal, layer, kvHead, slots) => {
      if (!(pool instanceof GpuKvPool)) throw new TypeError("not a pool of this backend");
      return pool.readSignal(signal, layer, kvHead, slots);
    },
  });
}
