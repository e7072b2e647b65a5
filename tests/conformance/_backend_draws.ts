/**
 * Laws of draws and summaries of logits, for backends that make them: token for token what the
 * sampler gives, for every combination of filters, whatever the row looks like.
 */
import { assert, assertEquals } from "@std/assert";
import type { Backend, DrawSpec } from "../../runtime/backend/backend.ts";
import { seedFrom } from "../../runtime/rng.ts";
import {
  greedySampling,
  rowStats,
  sampleRow,
  type SamplingParams,
  topK,
} from "../../runtime/sampling.ts";
import type { LawContext } from "./backend.ts";
import { randomOf } from "./_backend_reference.ts";

/** Kinds of rows: logits from a number in [0, 1) and an index. */
const rowKinds: Readonly<Record<string, (u: number, i: number) => number>> = {
  usual: (u) => 2 * Math.log((u + 1e-6) / (1 - u + 1e-6)),
  flat: (u) => u / 100,
  peaked: (u, i) => i % 37 === 5 ? 30 : 4 * u - 90,
  tied: (u) => Math.floor(4 * u),
  masked: (u) => u < 0.5 ? -Infinity : 8 * u,
  "all equal": () => -3.25,
  "around zero": (u, i) => i % 3 === 0 ? -0 : i % 3 === 1 ? 0 : (u - 0.5) * 1e-40,
  // Different logits whose scores, differences from the best one, are rounded to the same.
  "told apart by rounding": (u, i) => i % 50 === 3 ? 1 + u : (u - 0.5) * 1e-20,
  extreme: (u, i) => i % 5 === 0 ? 3.4e38 * (2 * u - 1) : i % 5 === 1 ? -Infinity : 1e30 * u,
};

/** Not multiples of 4 and 16 among them, and what a vocabulary is padded to. */
const sizes = [[16, 16], [17, 20], [63, 64], [1003, 1003], [4100, 4104]] as const;

/** Every combination of filters for `vocab` tokens, at some temperature each. */
function* samplings(vocab: number): Generator<Partial<SamplingParams>> {
  const heats = [1, 0.7, 1.9, 0.05, 1];
  let i = 0;
  for (const topK of [0, 1, 3, 40, vocab - 1, vocab, vocab + 7]) {
    for (const topP of [1, 0.9, 0.35, 0.999]) {
      for (const minP of [0, 0.05, 1]) {
        yield { topK, topP, minP, temperature: heats[i++ % heats.length]! };
      }
    }
  }
  yield { topK: 5, typicalP: 0.6 };
  yield { topP: 0.95, minP: 0.01, typicalP: 0.8, temperature: 1.3 };
  yield { temperature: 0, topK: 3 };
  yield { temperature: 1e-3, topP: 0.5 };
}

/** Registers them; they hold for backends without draws as well, which have nothing to show. */
export function drawLaws({ law }: LawContext): void {
  for (const [kind, value] of Object.entries(rowKinds)) {
    law(`draws from rows that are ${kind} are the sampler's`, async (backend) => {
      if (backend.canDraw === undefined) return;
      // Software adapters take 10 ms per draw.
      const isFast = backend.view !== undefined;
      for (const [vocab, stride] of isFast ? sizes : sizes.slice(2, 4)) {
        const logits = logitsOf(2, stride, vocab, value);
        const draws = [...drawsOf(vocab, kind)].filter((_, i) => isFast || i % 11 === 0);
        await sameDraws(backend, { logits, vocab, stride, draws });
      }
    });
    law(`summaries of rows that are ${kind} are the sampler's`, (backend) => {
      if (backend.summarise === undefined) return Promise.resolve();
      for (const [vocab, stride] of sizes) {
        const logits = logitsOf(2, stride, vocab + 1, value);
        using x = backend.tensor("x", [2, stride], "f32", logits);
        const asks = [0, 1, 2, 20, vocab >> 1, vocab, vocab + 9]
          .map((top, i) => ({ row: i % 2, top }));
        const told = backend.summarise(x, vocab, asks);
        for (const [i, { row, top }] of asks.entries()) {
          const from = logits.subarray(row * stride, row * stride + vocab);
          const { candidates } = topK(from, top);
          assertEquals(told[i], { ...rowStats(from), top: candidates }, `${vocab}, best ${top}`);
        }
      }
      return Promise.resolve();
    });
  }
  law("rows without a distribution have no draw and no summary", async (backend) => {
    const rows = [NaN, Infinity, -Infinity].map((odd) =>
      Array.from({ length: 20 }, (_, i) => odd === -Infinity || i === 7 ? odd : i)
    );
    using x = backend.tensor("x", [3, 20], "f32", Float32Array.from(rows.flat()));
    const asks = rows.map((_, row) => ({ row, top: 2 }));
    const none = [undefined, undefined, undefined];
    if (backend.summarise) assertEquals([...backend.summarise(x, 20, asks)], none);
    if (backend.canDraw === undefined) return;
    for (const sampling of [{}, { topK: 4 }, { topP: 0.5 }]) {
      const draws = rows.map((_, row) => spec(row, 3, { temperature: 1, ...sampling }));
      using result = backend.record((ops) => ops.draw!(x, 20, draws));
      assertEquals([...await backend.drawn!(result, draws)], none);
    }
  });
}

interface Case {
  readonly logits: Float32Array;
  readonly vocab: number;
  readonly stride: number;
  readonly draws: readonly DrawSpec[];
}

async function sameDraws(
  backend: Backend,
  { logits, vocab, stride, draws: all }: Case,
): Promise<void> {
  const draws = all.filter((draw) => backend.canDraw!(draw, vocab));
  assert(draws.length > 0, "the backend draws nothing");
  using x = backend.tensor("x", [logits.length / stride, stride], "f32", logits);
  using result = backend.record((ops) => ops.draw!(x, vocab, draws));
  const drawn = await backend.drawn!(result, draws);
  for (const [i, draw] of draws.entries()) {
    if (drawn[i] === undefined) continue; // the host's
    const row = logits.subarray(draw.row * stride, draw.row * stride + vocab);
    const { token } = sampleRow(row, { ...draw, topLogprobs: 0 });
    assertEquals(drawn[i]!.token, token, `${vocab} tokens, ${JSON.stringify(draw.sampling)}`);
  }
}

/** Rows whose columns from `vocab` on would be drawn if they counted. */
function logitsOf(
  rows: number,
  stride: number,
  vocab: number,
  value: (u: number, i: number) => number,
): Float32Array {
  const rng = randomOf(vocab);
  return Float32Array.from(
    { length: rows * stride },
    (_, i) => i % stride < vocab ? value(rng.next(), i) : 1e9,
  );
}

function* drawsOf(vocab: number, kind: string): Generator<DrawSpec> {
  const rng = randomOf(vocab + kind.length);
  let i = 0;
  for (const sampling of samplings(vocab)) {
    const seed = seedFrom(Math.floor(rng.next() * 2 ** 50));
    // A third of them under a mask, which allows a token at least.
    const mask = Uint32Array.from({ length: Math.ceil(vocab / 32) }, () => rng.next() * 2 ** 32);
    mask[0]! |= 1 << (i % 16);
    const draw = spec(i % 2, 7 * i++, { temperature: 1, ...sampling, seed });
    yield i % 3 === 0 ? { ...draw, mask } : draw;
  }
}

function spec(row: number, position: number, sampling: Partial<SamplingParams>): DrawSpec {
  return {
    row,
    position,
    sampling: { ...greedySampling, ...sampling },
    promptTokens: [],
    completionTokens: [],
  };
}
