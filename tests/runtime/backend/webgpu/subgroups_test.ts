/** Kernels with subgroup operations: the bits of those without, and used only where they work. */
import { assert, assertEquals } from "@std/assert";
import type { AttentionRow, DrawSpec } from "../../../../runtime/backend/backend.ts";
import type { GpuBackend } from "../../../../runtime/backend/webgpu/mod.ts";
import { probeSubgroups } from "../../../../runtime/backend/webgpu/subgroups.ts";
import { greedySampling } from "../../../../runtime/sampling.ts";
import { randomMatrix, randomOf } from "../../../conformance/_backend_reference.ts";
import { createTestGpuBackend, gpu, testWithGpu } from "../../../_webgpu.ts";

/** Runs with and without on equal data; both answers, and the kernels of the one with. */
async function both(run: (backend: GpuBackend) => Promise<unknown>) {
  const results = await Promise.all([true, false].map(async (subgroups) => {
    using backend = createTestGpuBackend({ subgroups });
    return { values: await run(backend), kernels: backend.lastStep.map(({ kernel }) => kernel) };
  }));
  return { actual: results[0]!, expected: results[1]! };
}

/** As `testWithGpu`, where the device has subgroups that work. */
function testWithSubgroups(name: string, fn: () => Promise<void>): void {
  const has = gpu?.subgroupPrefix !== undefined;
  const test = has || gpu === undefined ? testWithGpu : Deno.test.ignore;
  test(has || gpu === undefined ? name : `${name} (ignored: no subgroups)`, fn);
}

for (const dtype of ["f32", "f16", "q8", "q4"] as const) {
  testWithSubgroups(
    `one token times ${dtype} weights has the same bits with subgroups`,
    async () => {
      for (const [outputs, depth] of [[1, 32], [11, 96], [70, 1056], [9, 4160]] as const) {
        const { actual, expected } = await both(async (backend) => {
          const rng = randomOf(70);
          const upload = (rows: number, cols: number, type: typeof dtype) =>
            backend.tensor("test", [rows, cols], type, randomMatrix(rng, rows, cols).data);
          using w = upload(outputs, depth, dtype);
          using u = upload(outputs, depth, dtype);
          using x = upload(1, depth, "f32");
          using r = upload(1, outputs, "f32");
          using b = backend.tensor("bias", [outputs], "f32", randomMatrix(rng, 1, outputs).data);
          const made = backend.record((ops) => [
            ops.linear(x, w, b),
            ops.add(r, ops.linear(x, w, b)),
            ops.swiglu(ops.linear(x, w, b), ops.linear(x, u, b)),
          ]);
          const values = await Promise.all(made.map((tensor) => backend.read(tensor)));
          for (const tensor of made) tensor[Symbol.dispose]();
          return values;
        });
        assertEquals(actual.values, expected.values, `${outputs} x ${depth}`);
        assertEquals(actual.kernels, Array(3).fill(`linear_subgroup_${dtype}`));
        assertEquals(expected.kernels, Array(3).fill(`linear_${dtype}`));
      }
    },
  );
}

testWithSubgroups("norms have the same bits with subgroups", async () => {
  for (const cols of [1, 7, 64, 576, 1000]) {
    const { actual, expected } = await both(async (backend) => {
      const rng = randomOf(71);
      using x = backend.tensor("x", [5, cols], "f32", randomMatrix(rng, 5, cols).data);
      using weight = backend.tensor("w", [cols], "f32", randomMatrix(rng, 1, cols).data);
      using y = backend.record((ops) => ops.rmsNorm(x, weight, 1e-5));
      return await backend.read(y);
    });
    assertEquals(actual.values, expected.values, `${cols} columns`);
    assertEquals(actual.kernels, ["rms_norm_subgroup"]);
    assertEquals(expected.kernels, ["rms_norm"]);
  }
});

testWithSubgroups(
  "attention has the same bits with subgroups, also where it is split",
  async () => {
    const layout = { layers: 1, kvHeads: 2, headDim: 72, pageSize: 16 }, slots = 640;
    const { actual, expected } = await both(async (backend) => {
      const rng = randomOf(72);
      using pool = backend.kvPool(layout, slots / 16);
      const upload = (rows: number, cols: number) =>
        backend.tensor("test", [rows, cols], "f32", randomMatrix(rng, rows, cols).data);
      using k = upload(slots, 144);
      using v = upload(slots, 144);
      using q = upload(3, 288);
      const pages = [Uint32Array.from({ length: slots / 16 }, (_, p) => p)];
      const row = (start: number, length: number, count: number): AttentionRow => ({
        start,
        length,
        granularity: "sequence",
        pages,
        counts: Uint32Array.of(count),
      });
      const places = [[Uint32Array.from({ length: slots }, (_, s) => s)]];
      backend.record((ops) => ops.kvWrite(pool, 0, k, v, [row(0, slots, slots)], places));
      const outputs: Float32Array[] = [];
      for (const counts of [[1, 63, 130], [65, 640, 512]]) {
        const rows = counts.map((count, r) => row(r, 1, count));
        using y = backend.record((ops) =>
          ops.attention(q, pool, 0, rows, { scale: 0.2, signals: [] })
        );
        outputs.push(await backend.read(y));
      }
      return outputs;
    });
    assertEquals(actual.values, expected.values);
    assertEquals(actual.kernels, ["attention_subgroup", "attention_merge"]);
    assertEquals(expected.kernels, ["attention", "attention_merge"]);
  },
);

testWithSubgroups(
  "statistics of rows have the same bits with subgroups, ties and all",
  async () => {
    const vocab = 2500;
    const draws = [0, 1, 2].map((row): DrawSpec => ({
      row,
      position: 5 + row,
      sampling: { ...greedySampling, temperature: row === 1 ? 0 : 0.7, seed: { low: 3, high: 0 } },
      promptTokens: [],
      completionTokens: [],
    }));
    const data = randomMatrix(randomOf(73), 3, vocab).data.map((value) =>
      Math.round(value * 40) / 4
    );
    const { actual, expected } = await both(async (backend) => {
      using x = backend.tensor("x", [3, vocab], "f32", data);
      using result = backend.record((ops) => ops.draw!(x, vocab, draws));
      return [await backend.read(result), await backend.drawn!(result, draws)];
    });
    assertEquals(actual.values, expected.values);
    assert(actual.kernels.includes("row_stats_subgroup"));
    assert(expected.kernels.includes("row_stats"));
  },
);

testWithGpu("probeSubgroups() finds that a device without the feature has none", async () => {
  const adapter = await navigator.gpu.requestAdapter();
  const device = await adapter!.requestDevice();
  assertEquals(await probeSubgroups(device), undefined);
  device.destroy();
});
