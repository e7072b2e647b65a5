import { assertEquals } from "@std/assert";
import type { Ops, Tensor } from "../../../../runtime/backend/backend.ts";
import { GpuKvPool } from "../../../../runtime/backend/webgpu/mod.ts";
import { testBackend } from "../../../conformance/backend.ts";
import { createTestGpuBackend, gpu, testWithGpu } from "../../../_webgpu.ts";

if (gpu === undefined) testWithGpu("WebGPU backend: laws", () => {});
else {
  using example = createTestGpuBackend();
  testBackend("WebGPU", () => createTestGpuBackend(), {
    ...example.kv && { kv: example.kv },
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

testWithGpu(
  "record() computes a layer that was joined with others again where it is needed",
  async () => {
    using backend = createTestGpuBackend();
    using x = backend.tensor("x", [1, 4], "f32", Float32Array.of(1, 2, 3, 4));
    using w = backend.tensor("w", [2, 4], "f32", Float32Array.of(1, 1, 1, 1, 1, 0, 0, -1));
    using v = backend.tensor("v", [2, 4], "f32", Float32Array.of(0, 0, 0, 0, 0, 0, 0, 0));
    using one = backend.tensor("one", [1, 2], "f32", Float32Array.of(1, 1));
    const read = async (build: (ops: Ops) => Tensor[]) => {
      const values: number[][] = [];
      for (const tensor of backend.record(build)) {
        values.push([...await backend.read(tensor)]);
        tensor[Symbol.dispose]();
      }
      return values;
    };
    const sums = await read((ops) => {
      const layer = ops.linear(x, w);
      return [ops.add(layer, one), layer, ops.add(one, layer), ops.add(layer, layer)];
    });
    assertEquals(sums, [[11, -2], [10, -3], [11, -2], [20, -6]]);
    const gated = await read((ops) => {
      const gate = ops.linear(x, v), up = ops.linear(x, w);
      return [ops.swiglu(gate, up), gate, up];
    });
    assertEquals(gated, [[0, -0], [0, 0], [10, -3]]);
  },
);
