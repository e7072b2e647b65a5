/** Matrices in every format, split over buffers, in joined and fused dispatches; split attention. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import type { AttentionRow, DType, Ops, Tensor } from "../../../../runtime/backend/backend.ts";
import { createCpuBackend } from "../../../../runtime/backend/cpu/mod.ts";
import { type GpuBackend } from "../../../../runtime/backend/webgpu/mod.ts";
import * as reference from "../../../conformance/_backend_reference.ts";
import { type Matrix, randomMatrix, randomOf } from "../../../conformance/_backend_reference.ts";
import { createTestGpuBackend, testWithGpu } from "../../../_webgpu.ts";

const upload = (backend: GpuBackend, { rows, cols, data }: Matrix, dtype: DType = "f32") =>
  backend.tensor("test", [rows, cols], dtype, data);

async function evaluate(backend: GpuBackend, build: (ops: Ops) => Tensor): Promise<Float32Array> {
  using result = backend.record(build);
  return await backend.read(result);
}

/** The values a matrix stands for, through `embed`. */
async function held(backend: GpuBackend, table: Tensor): Promise<Matrix> {
  const [rows, cols] = table.shape as [number, number];
  const all = Uint32Array.from({ length: rows }, (_, row) => row);
  return { rows, cols, data: await evaluate(backend, (ops) => ops.embed(table, all)) };
}

/** Largest distance of a stored value from the one given, relative to its block's largest. */
const storageError: Readonly<Partial<Record<DType, number>>> = {
  f32: 0,
  f16: 2 ** -11,
  q8: 0.51 / 127,
  q4: 1.01 / 8, // the end of the range that has no -8
};

const dtypes = ["f32", "f16", "q8", "q4"] as const;
for (const dtype of dtypes) {
  testWithGpu(
    `${dtype} weights are stored within their rounding and multiplied as f64 loops do`,
    async () => {
      const rng = randomOf(40);
      using backend = createTestGpuBackend();
      for (const [rows, depth] of [[1, 32], [3, 64], [8, 288], [17, 320], [9, 1088]] as const) {
        const w = randomMatrix(rng, rows, depth);
        using weight = upload(backend, w, dtype);
        const values = await held(backend, weight);
        values.data.forEach((value, i) => {
          const block = w.data.subarray(i - i % 32, i - i % 32 + 32);
          const most = Math.max(...block.map(Math.abs));
          assertAlmostEquals(value, w.data[i]!, storageError[dtype]! * most);
        });
        using bias = backend.tensor("bias", [rows], "f32", randomMatrix(rng, 1, rows).data);
        const b = await backend.read(bias);
        for (const tokens of [1, 2, 3, 5, 9]) {
          const x = randomMatrix(rng, tokens, depth);
          using xt = upload(backend, x);
          const actual = await evaluate(backend, (ops) => ops.linear(xt, weight, bias));
          reference.linear(x, values, b).forEach(({ value, magnitude }, i) =>
            assertAlmostEquals(actual[i]!, value, (depth / 8 + 8) * 2 ** -24 * magnitude)
          );
        }
      }
    },
  );

  testWithGpu(`a row times ${dtype} weights is the same to the bit among 1 to 9 rows`, async () => {
    const rng = randomOf(45);
    using backend = createTestGpuBackend();
    for (const depth of [96, 1056, 2080]) {
      using weight = upload(backend, randomMatrix(rng, 11, depth), dtype);
      using up = upload(backend, randomMatrix(rng, 11, depth), dtype);
      const x = randomMatrix(rng, 9, depth);
      const run = async (tokens: number) => {
        using xt = upload(backend, {
          rows: tokens,
          cols: depth,
          data: x.data.slice(0, tokens * depth),
        });
        const y = await evaluate(backend, (ops) => ops.linear(xt, weight));
        const gated = await evaluate(
          backend,
          (ops) => ops.swiglu(ops.linear(xt, weight), ops.linear(xt, up)),
        );
        return [y.slice(0, 11), gated.slice(0, 11)];
      };
      const alone = await run(1);
      for (let tokens = 2; tokens <= 9; tokens++) assertEquals(await run(tokens), alone);
    }
  });

  testWithGpu(`${dtype} weights in several buffers give the same bits as in one`, async () => {
    const rng = randomOf(41);
    const w = randomMatrix(rng, 70, 64), x = randomMatrix(rng, 3, 64), b = randomMatrix(rng, 1, 70);
    const tokens = Uint32Array.of(0, 69, 35, 7);
    const outputs = await Promise.all([undefined, 2048].map(async (bindingBytes) => {
      using backend = createTestGpuBackend(bindingBytes === undefined ? {} : { bindingBytes });
      using weight = upload(backend, w, dtype);
      using xt = upload(backend, x);
      using bias = backend.tensor("bias", [70], "f32", b.data);
      const rows = await evaluate(backend, (ops) => ops.embed(weight, tokens));
      const y = await evaluate(backend, (ops) => ops.linear(xt, weight, bias));
      const gated = await evaluate(
        backend,
        (ops) => ops.swiglu(ops.linear(xt, weight), ops.linear(xt, weight)),
      );
      return { rows, y, gated };
    }));
    assertEquals(outputs[1], outputs[0]);
  });
}

testWithGpu(
  "three layers of one x, sums and gates are one dispatch each and keep every bit",
  async () => {
    for (const dtype of dtypes) {
      const results = await Promise.all([true, false].map(async (fuses) => {
        using backend = createTestGpuBackend({ fuses });
        const again = randomOf(43);
        const weights = [40, 17, 8, 64].map((rows) =>
          upload(backend, randomMatrix(again, rows, 64), dtype)
        );
        using x = upload(backend, randomMatrix(again, 5, 64));
        const [q, k, v, o] = weights as [Tensor, Tensor, Tensor, Tensor];
        const parts = backend.record((
          ops,
        ) => [ops.linear(x, q), ops.linear(x, k), ops.linear(x, v)]);
        const joined = backend.lastStep.length;
        const values = await Promise.all(parts.map((part) => backend.read(part)));
        values.push(await evaluate(backend, (ops) => ops.add(x, ops.linear(x, o))));
        const summed = backend.lastStep.length;
        values.push(
          await evaluate(backend, (ops) => ops.swiglu(ops.linear(x, o), ops.linear(x, o))),
        );
        return { values, dispatches: [joined, summed, backend.lastStep.length] };
      }));
      assertEquals(results[0]!.values, results[1]!.values);
      assertEquals(results[0]!.dispatches, [1, 1, 1]);
      assertEquals(results[1]!.dispatches, [3, 2, 3]);
    }
  },
);

/** A row of `count` slots on the pages from `first` on, of which the last is new. */
function longRow(start: number, first: number, count: number, pageSize: number): AttentionRow {
  const pages = Uint32Array.from({ length: Math.ceil(count / pageSize) }, (_, p) => first + p);
  return {
    start,
    length: 1,
    granularity: "sequence",
    pages: [pages],
    counts: Uint32Array.of(count),
  };
}

testWithGpu(
  "attention over many slots is split, right, and the same to the bit as unsplit",
  async () => {
    const rng = randomOf(44);
    const layout = { layers: 1, kvHeads: 2, headDim: 72, pageSize: 16 }, heads = 4;
    using gpu = createTestGpuBackend();
    using cpu = createCpuBackend();
    const slots = 900, width = layout.kvHeads * layout.headDim;
    const k = randomMatrix(rng, slots, width), v = randomMatrix(rng, slots, width);
    const q = randomMatrix(rng, 2, heads * layout.headDim);
    const run = async (backend: typeof cpu, chosen: readonly number[]) => {
      using pool = backend.kvPool(layout, 60);
      const all: AttentionRow = { ...longRow(0, 0, slots, 16), length: slots };
      const places = [[Uint32Array.from({ length: slots }, (_, s) => s)]];
      using kt = backend.tensor("k", [slots, width], "f32", k.data);
      using vt = backend.tensor("v", [slots, width], "f32", v.data);
      backend.record((ops) => ops.kvWrite(pool, 0, kt, vt, [all], places));
      const counts = [slots, 70];
      const rows = chosen.map((row, i) => longRow(i, 0, counts[row]!, 16));
      const data = Float32Array.from(chosen.flatMap((row) => [
        ...q.data.subarray(row * q.cols, (row + 1) * q.cols),
      ]));
      using qt = backend.tensor("q", [chosen.length, q.cols], "f32", data);
      using out = backend.record((ops) =>
        ops.attention(qt, pool, 0, rows, { scale: 0.1, signals: [] })
      );
      return await backend.read(out);
    };
    const both = await run(gpu, [0, 1]);
    const dispatches = () => gpu.lastStep.length;
    assertEquals(dispatches(), 2, "a long row is split");
    (await run(cpu, [0, 1])).forEach((value, i) => assertAlmostEquals(both[i]!, value, 2e-6));
    const short = await run(gpu, [1]);
    assertEquals(dispatches(), 1, "a short row is not");
    assertEquals(short, both.slice(q.cols));
  },
);

testWithGpu(
  "tensors and pools that do not fit the budget are refused, and what is freed fits again",
  () => {
    using backend = createTestGpuBackend({ memoryBytes: 8 << 20 });
    const error = assertThrows(() => backend.tensor("big", [3 << 20], "f32"), RangeError);
    assert(/Cannot hold big on the GPU: it needs 12 MiB, \d of 8 MiB are left/.test(error.message));
    const layout = { layers: 2, kvHeads: 2, headDim: 64, pageSize: 16 };
    assertThrows(() => backend.kvPool(layout, 1000), RangeError);
    for (let round = 0; round < 20; round++) {
      using _tensor = backend.tensor("fits", [1 << 20], "f32");
      using _pool = backend.kvPool(layout, 20);
    }
  },
);
