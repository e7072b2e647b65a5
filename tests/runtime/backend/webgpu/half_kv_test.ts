/** Keys and values in f16: how far off, and what stays exact. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import type { AttentionRow, Backend } from "../../../../runtime/backend/backend.ts";
import { createCpuBackend } from "../../../../runtime/backend/cpu/mod.ts";
import { selectBackend } from "../../../../runtime/backend/select.ts";
import { probe } from "../../../../runtime/backend/webgpu/mod.ts";
import { createLocalExecutor } from "../../../../runtime/engine/local_executor.ts";
import type { Executor, Row } from "../../../../runtime/engine/executor.ts";
import { configFromJson, loadDecoder } from "../../../../runtime/models/mod.ts";
import { randomMatrix, randomOf } from "../../../conformance/_backend_reference.ts";
import { hashedWeights } from "../../../fakes/hashed_weights.ts";
import { rowsOf, Sequence } from "../../../fakes/sequence.ts";
import golden from "../../../golden/logits.json" with { type: "json" };
import { createTestGpuBackend, gpu, testWithGpu } from "../../../_webgpu.ts";

/** As `testWithGpu`, where the device has f16. */
function testWithHalves(name: string, fn: () => void | Promise<void>): void {
  const has = gpu?.info.features.includes("shader-f16") === true;
  if (has || gpu === undefined) testWithGpu(name, fn);
  else Deno.test.ignore(`${name} (ignored: no f16)`, fn);
}

type Case = {
  readonly config: string;
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  readonly tokens: readonly number[];
};
const cases = golden.cases as unknown as Readonly<Record<string, Case>>;

function open(name: string, backend: Backend): Executor {
  const { config, shapes } = cases[name]!;
  const decoder = loadDecoder(configFromJson(config), hashedWeights(shapes), backend);
  return createLocalExecutor(decoder, backend, { pages: 32, pageSize: 8, contextLength: 64 });
}

const pagesFrom = (first: number) => Uint32Array.from({ length: 6 }, (_, i) => first + 5 - i);

/** Logits of all tokens, computed in chunks. */
async function logitsOf(executor: Executor, tokens: readonly number[], chunks: readonly number[]) {
  const sequence = new Sequence(executor, pagesFrom(0));
  const rows: Float32Array[] = [];
  for (const length of chunks) {
    const part = tokens.slice(sequence.length, sequence.length + length);
    rows.push(...rowsOf((await sequence.run(part, [{ kind: "logits", last: length }]))[0]));
  }
  return rows;
}

for (const name of ["qwen2-bias", "qwen3-qk-norm", "llama3-rope"]) {
  const { tokens } = cases[name]!;

  testWithHalves(`logits of ${name} with KV in f16 are within 2e-3 of the reference`, async () => {
    using cpu = createCpuBackend();
    using half = createTestGpuBackend({ kv: "f16" });
    await using expected = open(name, cpu);
    await using actual = open(name, half);
    assertEquals(actual.info.pageBytes, expected.info.pageBytes / 2);
    const rows = await logitsOf(actual, tokens, [tokens.length]);
    let isRounded = false;
    for (const [i, row] of (await logitsOf(expected, tokens, [tokens.length])).entries()) {
      const size = Math.max(...row.map(Math.abs));
      row.forEach((value, c) => assertAlmostEquals(rows[i]![c]!, value, 2e-3 * size));
      isRounded ||= row.some((value, c) => Math.abs(rows[i]![c]! - value) > 1e-6 * size);
    }
    assert(isRounded);
  });

  testWithHalves(
    `rows of ${name} with KV in f16 are the same to the bit in any chunks`,
    async () => {
      using half = createTestGpuBackend({ kv: "f16" });
      using single = createTestGpuBackend({ kv: "f16", tilesFrom: Infinity, subgroups: false });
      await using executor = open(name, half);
      const alone = await logitsOf(executor, tokens, [tokens.length]);
      assertEquals(await logitsOf(executor, tokens, [1, 12, 1, tokens.length - 14]), alone);
      await using plain = open(name, single);
      assertEquals(await logitsOf(plain, tokens, [tokens.length]), alone);
      const last = tokens.length - 1;
      const sequences = [1, 2, 3].map((b) => new Sequence(executor, pagesFrom(6 * b)));
      for (const one of sequences) await one.run(tokens.slice(0, last), []);
      const rows: Row[] = sequences.map((one) =>
        one.row([tokens[last]!], [{ kind: "logits", last: 1 }])
      );
      const { answers } = await executor.execute({ step: 0, edits: [], rows });
      for (const row of answers) assertEquals(rowsOf(row[0])[0], alone[last]);
    },
  );
}

testWithHalves("slots in f16 are written, copied, turned and read as rounded numbers", async () => {
  const rng = randomOf(80);
  const layout = { layers: 2, kvHeads: 2, headDim: 6, pageSize: 4 }, tokens = 5;
  using backend = createTestGpuBackend({ kv: "f16" });
  using pool = backend.kvPool(layout, 4);
  const kData = randomMatrix(rng, tokens, 12), vData = randomMatrix(rng, tokens, 12);
  using k = backend.tensor("k", [tokens, 12], "f32", kData.data);
  using v = backend.tensor("v", [tokens, 12], "f32", vData.data);
  const slots = Uint32Array.of(3, 0, 9, 4, 12);
  const row: AttentionRow = {
    start: 0,
    length: tokens,
    granularity: "sequence",
    pages: [Uint32Array.of(0, 1, 2, 3)],
    counts: Uint32Array.of(16),
  };
  backend.record((ops) => ops.kvWrite(pool, 1, k, v, [row], [[slots]]));
  const headOf = ({ data }: typeof kData, head: number) =>
    Array.from({ length: tokens }, (_, t) => data.slice(t * 12 + head * 6, t * 12 + head * 6 + 6))
      .flatMap((values) => Array.from(values, Math.f16round));
  const read = async (signal: "key" | "value", head: number, from: Uint32Array) =>
    Array.from(await pool.readSignal(signal, 1, head, from));
  assertEquals(await read("key", 1, slots), headOf(kData, 1));
  assertEquals(await read("value", 0, slots), headOf(vData, 0));
  const to = Uint32Array.of(15, 1, 2, 5, 6);
  const frequencies = Float64Array.of(1, 0.5, 0.25);
  const rope = { headDim: 6, layout: "half" as const, frequencies };
  backend.record((ops) =>
    ops.kvCopy(pool, slots, to, { turn: { shifts: Int32Array.of(0, 1, 2, 3, -4), rope } })
  );
  assertEquals(await read("value", 1, to), headOf(vData, 1));
  const keys = headOf(kData, 0), turned = await read("key", 0, to);
  [0, 1, 2, 3, -4].forEach((shift, t) => {
    for (let d = 0; d < 3; d++) {
      const [a, b] = [keys[6 * t + d]!, keys[6 * t + d + 3]!];
      const [cos, sin] = [Math.cos(shift * frequencies[d]!), Math.sin(shift * frequencies[d]!)];
      assertAlmostEquals(turned[6 * t + d]!, a * cos - b * sin, 2 ** -11 * 1.5);
      assertAlmostEquals(turned[6 * t + d + 3]!, b * cos + a * sin, 2 ** -11 * 1.5);
    }
  });
});

testWithHalves("selectBackend() opens a backend with KV in f16 that passes the probe", async () => {
  using half = await selectBackend("webgpu", { kv: "f16" });
  assertEquals(half.details!.kv, "f16");
  assertEquals(await probe(half), undefined);
});

testWithHalves("a backend with KV in f16 says which policies it cannot serve", () => {
  using half = createTestGpuBackend({ kv: "f16" });
  using full = createTestGpuBackend();
  assertEquals([half.kv!.formats, half.kv!.reads, half.kv!.sight], [[], [], false]);
  assertEquals(full.kv!.formats.length > 0, true);
});
