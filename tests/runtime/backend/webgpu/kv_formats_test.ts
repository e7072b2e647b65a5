/** Pages in fewer bits are the reference's to the bit, and attention over many of their slots is its. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import type { AttentionRow, Backend } from "../../../../runtime/backend/backend.ts";
import { createCpuBackend } from "../../../../runtime/backend/cpu/mod.ts";
import type { KvFormat, KvSignal, ReadRule } from "../../../../runtime/kv/policy.ts";
import { type Matrix, randomMatrix, randomOf } from "../../../conformance/_backend_reference.ts";
import { createTestGpuBackend, testWithGpu } from "../../../_webgpu.ts";

const formats = ["int8", "int4", "kivi4"] as const;
const upTo = (count: number, first = 0) => Uint32Array.from({ length: count }, (_, i) => first + i);
const upload = (backend: Backend, { rows, cols, data }: Matrix) =>
  backend.tensor("test", [rows, cols], "f32", data);

testWithGpu("kvEncode() and kvCopy() store the reference's bits in every format", async () => {
  const rng = randomOf(51), tokens = 64, kvHeads = 2;
  using cpu = createCpuBackend();
  using gpu = createTestGpuBackend();
  for (const headDim of [8, 40, 64, 128]) {
    const k = randomMatrix(rng, tokens, kvHeads * headDim);
    const v = randomMatrix(rng, tokens, kvHeads * headDim);
    k.data.fill(0, 0, headDim); // no scale
    k.data.fill(-3.25, 2 * headDim, 3 * headDim); // one value
    v.data.forEach((value, i) => v.data[i] = value * 1e-5); // scales below the normal f16
    const layout = { layers: 2, kvHeads, headDim, pageSize: 16 };
    for (const format of formats) {
      const place = { granularity: "sequence", format } as const;
      const read = async (backend: Backend) => {
        using pool = backend.kvPool(layout, 60);
        using kt = upload(backend, k);
        using vt = upload(backend, v);
        const pages = upTo(4), counts = Uint32Array.of(tokens);
        const row: AttentionRow = {
          start: 0,
          length: tokens,
          granularity: "sequence",
          pages: [pages],
          counts,
        };
        const perPage = pool.slotsPerPage(format);
        const to = upTo(tokens, 20 * perPage), copied = upTo(tokens, 40 * perPage);
        for (const layer of [0, 1]) {
          backend.record((ops) => ops.kvWrite(pool, layer, kt, vt, [row], [[upTo(tokens)]]));
        }
        backend.record((ops) => ops.kvEncode!(pool, upTo(tokens), to, place));
        backend.record((ops) => ops.kvCopy(pool, to, copied, place));
        const all = [["key", 0], ["key", 1], ["value", 1]] as const;
        return await Promise.all(
          all.map(([name, head]) => pool.readSignal(name, 1, head, copied, place)),
        );
      };
      assertEquals(await read(gpu), await read(cpu), `${format}, ${headDim} dimensions`);
    }
  }
});

const signals: readonly KvSignal[] = ["attention-sum", "attention-last", "attention-max"];
const rule: ReadRule = {
  score: "bounds",
  budget: 70,
  sinks: 3,
  window: 5,
  denseLayers: 0,
  densePrefill: false,
};

/** Long rows, so that slots are spread over workgroups, beside a short one that reads everything. */
const cases: readonly { readonly name: string; readonly extra: Partial<AttentionRow> }[] = [
  { name: "everything", extra: {} },
  { name: "what bounds say", extra: { rule } },
  {
    name: "what the oracle says, from its third token on",
    extra: { rule: { ...rule, score: "oracle" }, ruleFrom: 2 },
  },
  {
    name: "a list",
    extra: { read: [upTo(90, 7)], readFrom: Uint32Array.of(580) },
  },
  {
    name: "a tree, by bounds",
    extra: { rule, treeMask: Uint32Array.of(0b0001, 0b0011, 0b0101, 0b1101) },
  },
];

for (const format of ["f32", ...formats] as const) {
  for (const [c, { name, extra }] of cases.entries()) {
    // What is read and how it is stored are apart in the kernels: some pairs are enough.
    if ((format === "int8" || format === "kivi4") && c % 2 === 1) continue;
    testWithGpu(
      `attention() over ${format} slots that reads ${name} is the reference's`,
      async () => {
        const gpu = await attend(createTestGpuBackend(), format, extra);
        const cpu = await attend(createCpuBackend(), format, extra);
        for (const [i, values] of cpu.entries()) {
          assert(values.some((value) => value !== 0));
          values.forEach((value, j) => assertAlmostEquals(gpu[i]![j]!, value, 1e-5));
        }
      },
    );
  }
}

/** Outputs of three rows, and what was recorded about the slots of the first two. */
async function attend(
  backend: Backend,
  format: KvFormat,
  extra: Partial<AttentionRow>,
): Promise<Float32Array[]> {
  using owned = backend;
  const layout = { layers: 1, kvHeads: 2, headDim: 40, pageSize: 16 }, heads = 4;
  const tokens = 600, encoded = 576, length = 4, rng = randomOf(52);
  using pool = owned.kvPool(layout, 120);
  const row = (start: number, own: Partial<AttentionRow>): AttentionRow => ({
    start,
    length,
    granularity: "sequence",
    pages: [upTo(38)],
    counts: Uint32Array.of(tokens),
    ...own,
  });
  const { kvHeads, headDim } = layout;
  using k = upload(owned, randomMatrix(rng, tokens, kvHeads * headDim));
  using v = upload(owned, randomMatrix(rng, tokens, kvHeads * headDim));
  using q = upload(owned, randomMatrix(rng, 3 * length, heads * headDim));
  const first = row(0, { length: tokens });
  owned.record((ops) => ops.kvWrite(pool, 0, k, v, [first], [[upTo(tokens)]]));
  const perPage = pool.slotsPerPage(format);
  // The end of the row stays as it is; the beginning moves into the other format.
  const plain = format === "f32" ? {} : {
    pages: [upTo(2, 36)],
    counts: Uint32Array.of(tokens - encoded),
    encoded: {
      format,
      pages: [upTo(Math.ceil(encoded / perPage), 60)],
      counts: Uint32Array.of(encoded),
    },
  };
  if (format !== "f32") {
    const place = { granularity: "sequence", format } as const;
    const to = upTo(encoded, 60 * perPage);
    owned.record((ops) => ops.kvEncode!(pool, upTo(encoded), to, place));
  }
  const rows = [row(0, { ...plain, ...extra, signals }), row(4, { signals: [] }), row(8, plain)];
  using y = owned.record((ops) => ops.attention(q, pool, 0, rows, { scale: 0.3, signals: [] }));
  const out = [await owned.read(y)];
  // Every row alone gives the same bits as in their company.
  for (const [r, one] of rows.entries()) {
    using alone = owned.record((ops) =>
      ops.attention(q, pool, 0, [{ ...one, signals: [] }], { scale: 0.3, signals: [] })
    );
    const part = (values: Float32Array) =>
      values.subarray(4 * r * heads * headDim, 4 * (r + 1) * heads * headDim);
    assertEquals(part(await owned.read(alone)), part(out[0]!));
  }
  for (const name of signals) {
    out.push(await pool.readSignal(name, 0, 1, upTo(24, 576)));
    if (format === "f32") continue;
    const place = { granularity: "sequence", format } as const;
    out.push(await pool.readSignal(name, 0, 1, upTo(encoded, 60 * perPage), place));
  }
  return out;
}

testWithGpu("bounds of a page are kept until its keys are written or copied over", async () => {
  const layout = { layers: 2, kvHeads: 2, headDim: 12, pageSize: 8 }, heads = 4, tokens = 64;
  const run = async (backend: Backend) => {
    using owned = backend;
    const rng = randomOf(53), width = layout.kvHeads * layout.headDim;
    using pool = owned.kvPool(layout, 20);
    using q = upload(owned, randomMatrix(rng, 1, heads * layout.headDim));
    const seen = { start: 0, granularity: "sequence", pages: [upTo(9)] } as const;
    // Larger keys have larger bounds, so that what is written later is read.
    const write = (slots: Uint32Array, gain = 1) => {
      const keys = randomMatrix(rng, slots.length, width);
      keys.data.forEach((value, i) => keys.data[i] = gain * value);
      using k = upload(owned, keys);
      using v = upload(owned, randomMatrix(rng, slots.length, width));
      const row = { ...seen, length: slots.length, counts: Uint32Array.of(9 * 8) };
      for (const layer of [0, 1]) {
        owned.record((ops) => ops.kvWrite(pool, layer, k, v, [row], [[slots]]));
      }
    };
    const small = { ...rule, budget: 20, sinks: 1, window: 2 };
    const attend = async () => {
      const row = { ...seen, length: 1, counts: Uint32Array.of(tokens + 1), rule: small };
      const out: number[] = [];
      for (const layer of [0, 1]) {
        using y = owned.record((ops) =>
          ops.attention(q, pool, layer, [row], { scale: 0.3, signals: [] })
        );
        out.push(...await owned.read(y));
      }
      return out;
    };
    write(upTo(72));
    write(upTo(8, 100), 20); // elsewhere, to be copied
    const results = [await attend(), await attend()];
    write(upTo(8, 16), 5);
    results.push(await attend());
    owned.record((ops) => ops.kvCopy(pool, upTo(4, 100), upTo(4, 34)));
    results.push(await attend());
    return results;
  };
  const [gpu, cpu] = [await run(createTestGpuBackend()), await run(createCpuBackend())];
  assertEquals(gpu[1], gpu[0]);
  for (const [i, values] of cpu.entries()) {
    if (i > 1) assert(values.some((value, j) => Math.abs(value - cpu[i - 1]![j]!) > 1e-3));
    values.forEach((value, j) => assertAlmostEquals(gpu[i]![j]!, value, 1e-5));
  }
});
