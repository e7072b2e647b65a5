/**
 * The probe: small problems with known answers, run before a GPU is trusted. Matrices in every format,
 * a step of rotation, storing and attention, norms and gates, and what KV policies use are compared with
 * the reference, draws with the host's.
 */
import { createRng, seedFrom } from "../../rng.ts";
import {
  type AttentionRow,
  type Backend,
  type DType,
  leastKvSupport,
  type Ops,
  type Tensor,
} from "../backend.ts";
import { createCpuBackend } from "../cpu/mod.ts";
import type { GpuBackend } from "./mod.ts";
import { probeDraws } from "./probe_draws.ts";
import { kvResults } from "./probe_kv.ts";

/** Largest error relative to the largest value; weights are the same numbers in every format. */
const TOLERANCE = 1e-4;
/** The same of attention over keys and values in f16. */
const HALF_TOLERANCE = 2e-3;

/** One problem: what to compute, given how matrices are held. */
type Problem = (
  backend: Backend,
  hold: (data: Float32Array) => Tensor,
  denominator: number,
) => Promise<Float32Array>;

const DEPTH = 64, WIDTH = 48;

/** One token, few and many: they go through different kernels. */
const TOKENS = [1, 3, 70];

/** Fractions with this denominator; each block of 32 has a -1, so that its scale keeps them exact. */
function weights(seed: number, denominator: number): Float32Array {
  const rng = createRng(seedFrom(seed));
  return Float32Array.from(
    { length: WIDTH * DEPTH },
    (_, i) =>
      i % 32 === 0 ? -1 : Math.floor((2 * rng.next() - 1) * (denominator - 1)) / denominator,
  );
}

function values(seed: number, size: number): Float32Array {
  const rng = createRng(seedFrom(seed));
  return Float32Array.from({ length: size }, () => 2 * rng.next() - 1);
}

const layer = (tokens: number): Problem => async (backend, hold, denominator) => {
  using x = backend.tensor("probe.x", [tokens, DEPTH], "f32", values(1, tokens * DEPTH));
  using gain = backend.tensor("probe.gain", [DEPTH], "f32", values(2, DEPTH));
  using bias = backend.tensor("probe.bias", [WIDTH], "f32", values(3, WIDTH));
  using gate = hold(weights(4, denominator));
  using up = hold(weights(5, denominator));
  using y = backend.record((ops) => {
    const normed = ops.rmsNorm(x, gain, 1e-5);
    const gated = ops.swiglu(ops.linear(normed, gate), ops.linear(normed, up));
    return ops.add(gated, ops.linear(x, gate, bias));
  });
  return await backend.read(y);
};

const HEADS = 4, KV_HEADS = 2, HEAD_DIM = 16, HISTORY = 70;

const attention: Problem = async (backend) => {
  const layout = { layers: 1, kvHeads: KV_HEADS, headDim: HEAD_DIM, pageSize: 8 };
  using pool = backend.kvPool(layout, 16);
  const pages = [Uint32Array.from({ length: 9 }, (_, i) => (i * 7 + 3) % 16)];
  const upload = (seed: number, heads: number) =>
    backend.tensor(
      "probe.qkv",
      [HISTORY, heads * HEAD_DIM],
      "f32",
      values(seed, HISTORY * heads * HEAD_DIM),
    );
  using q = upload(6, HEADS);
  using k = upload(7, KV_HEADS);
  using v = upload(8, KV_HEADS);
  const rows: AttentionRow[] = [{
    start: 0,
    length: HISTORY,
    granularity: "sequence",
    pages,
    counts: Uint32Array.of(HISTORY),
  }];
  const slots = [[Uint32Array.from({ length: HISTORY }, (_, s) => pages[0]![s >> 3]! * 8 + s % 8)]];
  const positions = Uint32Array.from({ length: HISTORY }, (_, i) => i);
  const frequencies = Float64Array.from({ length: HEAD_DIM / 2 }, (_, i) => 100 ** (-i / 8));
  const rope = { headDim: HEAD_DIM, layout: "half" as const, frequencies };
  // All tokens together, then two of them alone, which other kernels compute.
  const alone = [0, 1].map((i): AttentionRow => ({
    ...rows[0]!,
    start: i,
    length: 1,
    counts: Uint32Array.of(HISTORY - 40 * i),
  }));
  const options = { scale: 0.25, signals: [] };
  const [all, some] = backend.record((ops: Ops) => {
    const turned = ops.rope(q, positions, rope);
    ops.kvWrite(pool, 0, ops.rope(k, positions, rope), v, rows, slots);
    const picked = ops.gatherRows(turned, Uint32Array.of(HISTORY - 1, HISTORY - 41));
    return [
      ops.attention(turned, pool, 0, rows, options),
      ops.attention(picked, pool, 0, alone, options),
    ];
  }) as [Tensor, Tensor];
  using y = all;
  using z = some;
  const [many, few] = await Promise.all([backend.read(y), backend.read(z)]);
  return Float32Array.of(...many, ...few);
};

/**
 * Runs all problems.
 *
 * @returns what is wrong, undefined if nothing is
 */
export async function probe(
  backend: Backend & Partial<Pick<GpuBackend, "isHalf">>,
): Promise<string | undefined> {
  using reference = createCpuBackend();
  const held = (on: Backend, dtype: DType) => (data: Float32Array) =>
    on.tensor("probe.weight", [WIDTH, DEPTH], dtype, data);
  try {
    // Together: on most devices a read is mostly waiting.
    const layers = (["f32", "f16", "q8", "q4"] as const).flatMap((dtype) =>
      TOKENS.map(async (tokens) => {
        const problem = layer(tokens), denominator = dtype === "q8" ? 127 : 8;
        const actual = await problem(backend, held(backend, dtype), denominator);
        const expected = await problem(reference, held(reference, "f32"), denominator);
        return { dtype, error: difference(actual, expected) };
      })
    );
    for (const { dtype, error } of await Promise.all(layers)) {
      if (!(error <= TOLERANCE)) return `a layer in ${dtype} is off by ${error.toExponential(1)}`;
    }
    const f32 = held(backend, "f32");
    const error = difference(
      await attention(backend, f32, 1),
      await attention(reference, held(reference, "f32"), 1),
    );
    const most = backend.isHalf === true ? HALF_TOLERANCE : TOLERANCE;
    if (!(error <= most)) return `attention is off by ${error.toExponential(1)}`;
    const support = backend.kv ?? leastKvSupport;
    const expected = await kvResults(reference, support);
    for (const [name, values] of await kvResults(backend, support)) {
      const error = difference(values, expected.get(name)!);
      if (!(error <= TOLERANCE)) return `${name} is off by ${error.toExponential(1)}`;
    }
    return await probeDraws(backend);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Largest error relative to the largest value. */
function difference(actual: Float32Array, expected: Float32Array): number {
  if (actual.length !== expected.length) return Infinity;
  const size = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return expected.reduce((most, value, i) => {
    const error = Math.abs(value - actual[i]!) / size;
    return error <= most ? most : error; // NaN becomes the answer
  }, 0);
}
