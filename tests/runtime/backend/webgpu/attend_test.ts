/** Attention in tiles of queries: the same to the bit as token by token, and what runs when. */
import { assertAlmostEquals, assertEquals } from "@std/assert";
import type { AttentionRow, Backend } from "../../../../runtime/backend/backend.ts";
import { createCpuBackend } from "../../../../runtime/backend/cpu/mod.ts";
import { spreads } from "../../../../runtime/backend/webgpu/attend.ts";
import type { GpuBackend } from "../../../../runtime/backend/webgpu/mod.ts";
import type { KvGranularity } from "../../../../runtime/kv/policy.ts";
import { permutation, randomMatrix, randomOf } from "../../../conformance/_backend_reference.ts";
import { createTestGpuBackend, testWithGpu } from "../../../_webgpu.ts";

/** A row: slots before its tokens, tokens, and how it looks at the older slots. */
interface Run {
  readonly before: number;
  readonly length: number;
  readonly granularity?: KvGranularity;
  /** Reads every third of the older slots, and all from some slot on. */
  readonly reads?: boolean;
  readonly isTree?: boolean;
}

interface Problem {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly runs: readonly Run[];
}

const PAGE_SIZE = 8;

/** Rows on scattered pages; pages of a layer or head hold parts of the pool, as in kv/units.ts. */
function rowsOf({ kvHeads, runs }: Problem) {
  const groupsOf = (run: Run) => run.granularity === "kv-head" ? kvHeads : 1;
  const needs = (run: Run) => Math.ceil((run.before + run.length) / PAGE_SIZE);
  const total = runs.reduce((n, run) => n + groupsOf(run) * needs(run), 0);
  const order = permutation(randomOf(7), total);
  let start = 0, used = 0;
  const rows = runs.map((run): AttentionRow => {
    const { before, length, granularity = "sequence", reads = false, isTree = false } = run;
    const count = before + length;
    const groups = groupsOf(run);
    const pages = Array.from({ length: groups }, () => {
      const list = Array.from({ length: needs(run) }, (_, p) => used + p);
      used += list.length;
      return Uint32Array.from(list, (p) => order[p]!);
    });
    const kept = Uint32Array.from({ length: Math.ceil(before / 3) }, (_, i) => 3 * i);
    const row = {
      start,
      length,
      granularity,
      pages,
      counts: new Uint32Array(groups).fill(count),
      ...reads
        ? {
          read: Array(groups).fill(kept),
          readFrom: new Uint32Array(groups).fill(Math.floor(before * 0.8)),
        }
        : {},
      ...isTree
        ? { treeMask: Uint32Array.from({ length }, (_, t) => 1 | (1 << t)) } // the root's children
        : {},
    };
    start += length;
    return row;
  });
  return { rows, tokens: start, pages: total };
}

/** Every slot of the pool is written, so that all kinds of rows find something. */
async function run(backend: Backend, problem: Problem) {
  const { heads, kvHeads, headDim } = problem;
  const { tokens, pages, rows } = rowsOf(problem);
  const rng = randomOf(60), slots = pages * PAGE_SIZE, width = kvHeads * headDim;
  using pool = backend.kvPool({ layers: 1, kvHeads, headDim, pageSize: PAGE_SIZE }, pages);
  const upload = (rows: number, cols: number) =>
    backend.tensor("test", [rows, cols], "f32", randomMatrix(rng, rows, cols).data);
  using k = upload(slots, width);
  using v = upload(slots, width);
  using q = upload(tokens, heads * headDim);
  const all: AttentionRow = {
    start: 0,
    length: slots,
    granularity: "sequence",
    pages: [Uint32Array.from({ length: pages }, (_, p) => p)],
    counts: Uint32Array.of(slots),
  };
  backend.record((ops) =>
    ops.kvWrite(pool, 0, k, v, [all], [[Uint32Array.from({ length: slots }, (_, s) => s)]])
  );
  using y = backend.record((ops) =>
    ops.attention(q, pool, 0, rows, { scale: 0.3, signals: ["attention-sum"] })
  );
  const kernels = (backend as Partial<GpuBackend>).lastStep?.map(({ kernel }) => kernel) ?? [];
  const values = await backend.read(y);
  const everySlot = Uint32Array.from({ length: slots }, (_, s) => s);
  const signal = await pool.readSignal("attention-sum", 0, kvHeads - 1, everySlot);
  return { values, signal, kernels };
}

const problems: Readonly<Record<string, Problem>> = {
  "one head, few dimensions": {
    heads: 1,
    kvHeads: 1,
    headDim: 6,
    runs: [{ before: 0, length: 1 }, { before: 3, length: 9 }, { before: 0, length: 70 }],
  },
  "groups of three, across parts of 64": {
    heads: 6,
    kvHeads: 2,
    headDim: 64,
    runs: [{ before: 60, length: 5 }, { before: 130, length: 67 }, { before: 0, length: 64 }],
  },
  "groups larger than a tile, two dimensions a lane": {
    heads: 11,
    kvHeads: 1,
    headDim: 72,
    runs: [{ before: 127, length: 3 }, { before: 64, length: 2 }],
  },
  "four dimensions a lane": {
    heads: 4,
    kvHeads: 2,
    headDim: 250,
    runs: [{ before: 90, length: 40 }],
  },
  "tables per layer and head, and rows that read less": {
    heads: 4,
    kvHeads: 2,
    headDim: 32,
    runs: [
      { before: 40, length: 30, granularity: "layer" },
      { before: 100, length: 33, granularity: "kv-head" },
      { before: 200, length: 21, granularity: "kv-head", reads: true },
      { before: 300, length: 10, reads: true },
    ],
  },
};

for (const [name, problem] of Object.entries(problems)) {
  testWithGpu(`tiles of attention give the bits of single tokens: ${name}`, async () => {
    using single = createTestGpuBackend({ tilesFrom: Infinity, subgroups: false });
    using tiled = createTestGpuBackend({ tilesFrom: 1, subgroups: false });
    using cpu = createCpuBackend();
    const expected = await run(single, problem), actual = await run(tiled, problem);
    assertEquals(actual.values, expected.values);
    assertEquals(actual.signal, expected.signal);
    assertEquals(expected.kernels[0], "attention");
    assertEquals(actual.kernels[0], "attention_tile");
    assertEquals(actual.kernels.includes("attention"), false);
    const reference = await run(cpu, problem);
    actual.values.forEach((value, i) => assertAlmostEquals(value, reference.values[i]!, 2e-6));
  });
}

testWithGpu("a step of long runs, single tokens and trees keeps every bit", async () => {
  const problem: Problem = {
    heads: 4,
    kvHeads: 2,
    headDim: 64,
    runs: [
      { before: 600, length: 1 }, // long enough for its parts to be spread
      { before: 20, length: 50 },
      { before: 9, length: 7, isTree: true },
      { before: 40, length: 8 },
      { before: 700, length: 1 },
    ],
  };
  using single = createTestGpuBackend({ tilesFrom: Infinity, subgroups: false });
  using mixed = createTestGpuBackend({ subgroups: false });
  const expected = await run(single, problem), actual = await run(mixed, problem);
  assertEquals(actual.values, expected.values);
  assertEquals(actual.signal, expected.signal);
  const attending = (kernels: readonly string[]) => kernels.slice(0, -1);
  assertEquals(attending(expected.kernels), ["attention", "attention_merge"]);
  assertEquals(attending(actual.kernels), ["attention_tile", "attention", "attention_merge"]);
});

testWithGpu("tiles of attention never see slots that nobody counts, not even NaN", async () => {
  const layout = { layers: 1, kvHeads: 1, headDim: 16, pageSize: 16 };
  using backend = createTestGpuBackend({ tilesFrom: 1, subgroups: false });
  const results = await Promise.all([0, NaN].map(async (rest) => {
    using pool = backend.kvPool(layout, 2);
    const values = Float32Array.from({ length: 32 * 16 }, (_, i) => i < 20 * 16 ? i % 7 : rest);
    using kv = backend.tensor("kv", [32, 16], "f32", values);
    const pages = [Uint32Array.of(0, 1)];
    const row = { start: 0, granularity: "sequence" as const, pages };
    const slots = Uint32Array.from({ length: 32 }, (_, s) => s);
    backend.record((ops) =>
      ops.kvWrite(pool, 0, kv, kv, [{ ...row, length: 32, counts: Uint32Array.of(32) }], [[slots]])
    );
    using q = backend.tensor("q", [9, 16], "f32", values.slice(0, 9 * 16));
    using y = backend.record((ops) =>
      ops.attention(q, pool, 0, [{ ...row, length: 9, counts: Uint32Array.of(20) }], {
        scale: 0.25,
        signals: [],
      })
    );
    return await backend.read(y);
  }));
  assertEquals(results[1], results[0]);
  assertEquals(results[0]!.every(Number.isFinite), true);
});

Deno.test("spreads() parts of long rows, unless queries alone are many", () => {
  assertEquals([spreads(32, 7), spreads(32, 8), spreads(32, 512)], [false, true, true]);
  assertEquals([spreads(64 * 32, 64), spreads(65 * 32, 64)], [true, false]);
});
