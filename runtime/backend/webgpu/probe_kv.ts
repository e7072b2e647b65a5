/**
 * The part of the probe for what KV policies use: tokens that choose what they read, by every score,
 * and older slots in every format, with and without such a choice.
 */
import type { KvFormat, ReadRule } from "../../kv/policy.ts";
import { createRng, seedFrom } from "../../rng.ts";
import type { AttentionRow, Backend, KvPool, KvSupport, Ops, Tensor } from "../backend.ts";

const HEADS = 4, KV_HEADS = 2, HEAD_DIM = 16, PAGE = 8, PAGES = 16;
/** Tokens; those at the end that ask; the oldest, which are stored in another format. */
const HISTORY = 70, ASKING = 2, OLD = 32;
/** Numbers per slot of the made-up adapter. */
const WIDTH = 3;
const ADAPTER = "probe";

type OtherFormat = Exclude<KvFormat, "f32">;

/** What went through the kernels, by what to call it. */
export type KvResults = ReadonlyMap<string, Float32Array>;

/** A permutation of the pool's pages: those of the sequence, then free ones. */
const ids = Uint32Array.from({ length: PAGES }, (_, i) => (i * 7 + 3) % PAGES);
const pages = ids.subarray(0, Math.ceil(HISTORY / PAGE));
const slots = Uint32Array.from(
  { length: HISTORY },
  (_, s) => pages[Math.floor(s / PAGE)]! * PAGE + s % PAGE,
);
const asking: AttentionRow = {
  start: 0,
  length: ASKING,
  granularity: "sequence",
  pages: [pages],
  counts: Uint32Array.of(HISTORY),
};

function ruleOf(score: ReadRule["score"]): ReadRule {
  const adapter = score === "adapter" ? { adapter: ADAPTER } : {};
  const shape = { budget: 28, sinks: 3, window: 5, denseLayers: 0, densePrefill: false };
  return { score, ...adapter, ...shape };
}

function noise(seed: number, size: number): Float32Array {
  const rng = createRng(seedFrom(seed));
  return Float32Array.from({ length: size }, () => 2 * rng.next() - 1);
}

/**
 * Vectors that a format stores without loss, so that rounding decides nothing: whole numbers of steps,
 * smallest and largest in each vector and in each channel of 32 tokens.
 */
function vectors(seed: number, format: KvFormat): Float32Array {
  const [least, most, steps] = format === "int8" ? [-127, 127, 128] : [-8, 7, 16];
  return noise(seed, HISTORY * KV_HEADS * HEAD_DIM).map((value, i) => {
    const d = i % HEAD_DIM, token = Math.floor(i / (KV_HEADS * HEAD_DIM));
    if (d === token % HEAD_DIM) return least / steps;
    if (d === (token + 1) % HEAD_DIM) return most / steps;
    return Math.floor(least + (value + 1) / 2 * (most - least)) / steps;
  });
}

/**
 * Computes everything of this kind that there is support for.
 *
 * @param support of the backend that is probed, also when the reference computes
 */
export async function kvResults(
  backend: Backend,
  { reads, formats }: Pick<KvSupport, "reads" | "formats">,
): Promise<KvResults> {
  const ruled = (name: string, row: AttentionRow, scores: readonly ReadRule["score"][]) =>
    scores.map((score): Case => [`reading ${name} by ${score}`, { ...row, rule: ruleOf(score) }]);
  const others = formats.filter((format) => format !== "f32");
  const results = await Promise.all([
    ...reads.length > 0 ? [attend(backend, "f32", () => ruled("f32", asking, reads))] : [],
    ...others.map((format) =>
      attend(backend, format, (pool) => {
        const row = withEncoded(pool, format);
        const byKeys = reads.filter((score) => score === "oracle");
        return [[`attention over ${format}`, row], ...ruled(format, row, byKeys)];
      })
    ),
  ]);
  return new Map(results.flat());
}

type Case = readonly [name: string, row: AttentionRow];

/** Writes the history, moves its oldest tokens into `format`, and lets all rows attend to it. */
async function attend(
  backend: Backend,
  format: KvFormat,
  casesOf: (pool: KvPool) => readonly Case[],
): Promise<[name: string, values: Float32Array][]> {
  const layout = { layers: 1, kvHeads: KV_HEADS, headDim: HEAD_DIM, pageSize: PAGE };
  using pool = backend.kvPool(layout, PAGES);
  const tensor = (label: string, rows: number, data: Float32Array) =>
    backend.tensor(`probe.${label}`, [rows, data.length / rows], "f32", data);
  using q = tensor("q", ASKING, noise(21, ASKING * HEADS * HEAD_DIM));
  using k = tensor("k", HISTORY, vectors(22, format));
  using v = tensor("v", HISTORY, vectors(23, format));
  using record = tensor("record", HISTORY, noise(24, HISTORY * KV_HEADS * WIDTH));
  using queries = tensor("queries", ASKING, noise(25, ASKING * HEADS * WIDTH));
  const cases = casesOf(pool);
  const outs = backend.record((ops: Ops) => {
    const rows = [{ ...asking, length: HISTORY }];
    ops.kvWrite(pool, 0, k, v, rows, [[slots]]);
    ops.kvRecord?.(pool, 0, `adapter:${ADAPTER}`, record, rows, [[slots]]);
    if (format !== "f32") {
      const { to } = encodedSlots(pool, format),
        place = { granularity: "sequence", format } as const;
      ops.kvEncode?.(pool, slots.slice(0, OLD), to, place);
    }
    const options = { scale: 0.25, signals: [], queries: new Map([[ADAPTER, queries]]) };
    return cases.map(([, row]) => ops.attention(q, pool, 0, [row], options));
  });
  const values = await Promise.all(outs.map((out: Tensor) => backend.read(out)));
  for (const out of outs) out[Symbol.dispose]();
  return cases.map(([name], i) => [name, values[i]!]);
}

/** Free pages for the oldest tokens, and their slots there. */
function encodedSlots(pool: KvPool, format: OtherFormat) {
  const perPage = pool.slotsPerPage(format);
  const taken = ids.slice(pages.length, pages.length + Math.ceil(OLD / perPage));
  const to = Uint32Array.from(
    { length: OLD },
    (_, s) => taken[Math.floor(s / perPage)]! * perPage + s % perPage,
  );
  return { pages: taken, to };
}

function withEncoded(pool: KvPool, format: OtherFormat): AttentionRow {
  return {
    ...asking,
    pages: [pages.slice(OLD / PAGE)],
    counts: Uint32Array.of(HISTORY - OLD),
    encoded: {
      format,
      pages: [encodedSlots(pool, format).pages],
      counts: Uint32Array.of(OLD),
    },
  };
}
