/** Tiled matrix products: right, and the same to the bit as the kernels for few tokens. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import type { DType, Ops, Tensor } from "../../../../runtime/backend/backend.ts";
import type { GpuBackend } from "../../../../runtime/backend/webgpu/mod.ts";
import * as reference from "../../../conformance/_backend_reference.ts";
import { type Matrix, randomMatrix, randomOf } from "../../../conformance/_backend_reference.ts";
import { createTestGpuBackend, testWithGpu } from "../../../_webgpu.ts";

const upload = (backend: GpuBackend, { rows, cols, data }: Matrix, dtype: DType = "f32") =>
  backend.tensor("test", [rows, cols], dtype, data);

/** Values and kernels of a step that makes some tensors. */
async function evaluate(backend: GpuBackend, build: (ops: Ops) => readonly Tensor[]) {
  const made = backend.record(build);
  const kernels = backend.lastStep.map(({ kernel }) => kernel);
  const values = await Promise.all(made.map((tensor) => backend.read(tensor)));
  for (const tensor of made) tensor[Symbol.dispose]();
  return { values, kernels };
}

/** Outputs, depth, tokens: less than a tile, more than one, and no multiple of one in any direction. */
const shapes = [
  [1, 32, 1],
  [7, 96, 15],
  [33, 288, 16],
  [70, 1056, 33],
  [50, 2080, 17],
] as const;

const dtypes = ["f32", "f16", "q8", "q4"] as const;
for (const dtype of dtypes) {
  testWithGpu(
    `tiles of ${dtype} weights give the bits of the kernel for few tokens, however joined`,
    async () => {
      const rng = randomOf(50);
      using few = createTestGpuBackend({ tilesFrom: Infinity, subgroups: false });
      using many = createTestGpuBackend({ tilesFrom: 1, subgroups: false });
      for (const [outputs, depth, tokens] of shapes) {
        const [a, b, c] = [outputs, outputs, 3].map((rows) => randomMatrix(rng, rows, depth));
        const x = randomMatrix(rng, tokens, depth), residual = randomMatrix(rng, tokens, outputs);
        const bias = randomMatrix(rng, 1, outputs).data;
        const [expected, actual] = await Promise.all([few, many].map(async (backend) => {
          using wa = upload(backend, a!, dtype);
          using wb = upload(backend, b!, dtype);
          using wc = upload(backend, c!, dtype);
          using xt = upload(backend, x);
          using rt = upload(backend, residual);
          using bt = backend.tensor("bias", [outputs], "f32", bias);
          const joined = await evaluate(
            backend,
            (ops) => [ops.linear(xt, wa, bt), ops.linear(xt, wb), ops.linear(xt, wc)],
          );
          const fused = await evaluate(backend, (ops) => [
            ops.add(rt, ops.linear(xt, wa, bt)),
            ops.swiglu(ops.linear(xt, wa, bt), ops.linear(xt, wb, bt)),
          ]);
          return {
            values: [...joined.values, ...fused.values],
            kernels: [...joined.kernels, ...fused.kernels],
          };
        }));
        assertEquals(actual!.values, expected!.values, `${outputs} x ${depth}, ${tokens} tokens`);
        assertEquals(actual!.kernels, Array(3).fill(`linear_tile_${dtype}`));
        assertEquals(expected!.kernels, Array(3).fill(`linear_${dtype}`));
      }
    },
  );
}

testWithGpu("tiles of weights multiply as f64 loops do", async () => {
  const rng = randomOf(51);
  using backend = createTestGpuBackend({ tilesFrom: 1, subgroups: false });
  const w = randomMatrix(rng, 37, 100), x = randomMatrix(rng, 19, 100);
  const bias = randomMatrix(rng, 1, 37).data;
  using weight = upload(backend, w);
  using xt = upload(backend, x);
  using bt = backend.tensor("bias", [37], "f32", bias);
  const { values: [y] } = await evaluate(backend, (ops) => [ops.linear(xt, weight, bt)]);
  reference.linear(x, w, bias).forEach(({ value, magnitude }, i) =>
    assertAlmostEquals(y![i]!, value, 20 * 2 ** -24 * magnitude)
  );
});

testWithGpu("weights in several buffers are tiled to the same bits as in one", async () => {
  const rng = randomOf(52);
  const w = randomMatrix(rng, 70, 64), x = randomMatrix(rng, 3, 64);
  for (const dtype of dtypes) {
    const [whole, parts] = await Promise.all([{}, { bindingBytes: 2048 }].map(async (options) => {
      using backend = createTestGpuBackend({ tilesFrom: 1, ...options });
      using weight = upload(backend, w, dtype);
      using xt = upload(backend, x);
      return await evaluate(backend, (ops) => [ops.linear(xt, weight)]);
    }));
    assertEquals(parts!.values, whole!.values);
    assert(parts!.kernels.length > whole!.kernels.length);
  }
});

testWithGpu("products are tiled from 32 tokens on", async () => {
  using backend = createTestGpuBackend();
  using weight = backend.tensor("w", [8, 32], "f32");
  const kernelFor = async (tokens: number) => {
    using x = backend.tensor("x", [tokens, 32], "f32");
    return (await evaluate(backend, (ops) => [ops.linear(x, weight)])).kernels;
  };
  assertEquals([await kernelFor(31), await kernelFor(32)], [["linear_f32"], ["linear_tile_f32"]]);
});
