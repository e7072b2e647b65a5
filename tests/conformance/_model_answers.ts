/** Laws of answers: all asks describe one distribution. */
import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import {
  argMax,
  greedySampling,
  logSoftmax,
  type SamplingParams,
  seedFrom,
} from "../../runtime/mod.ts";
import { entropy, sampleRow } from "../../runtime/sampling.ts";
import type { DefineLaw, LawModel } from "./language_model.ts";

const warm: SamplingParams = { ...greedySampling, temperature: 1, seed: seedFrom(7) };

export function answerLaws(law: DefineLaw): void {
  law("rows of the last positions equal rows read one by one", async (context) => {
    const prompt = context.tokens(19);
    using session = context.open(prompt);
    const rows = await session.logits({ last: 11 });
    assertEquals(rows.length, 11);
    for (const [i, row] of rows.entries()) {
      assertEquals(row, await context.fresh(prompt.slice(0, 9 + i)));
    }
    assertEquals(await session.logits({ last: 11 }), rows); // all of it is computed by now
  });

  law("topk agrees with logits", async (context) => {
    const vocab = context.model.vocab!.size;
    using session = context.open(context.tokens(14));
    for (const k of [1, 5, vocab]) {
      const [rows, tops] = await Promise.all([
        session.logits({ last: 4 }),
        session.topk(k, { last: 4 }),
      ]);
      assertEquals(tops.length, 4);
      tops.forEach(({ candidates, rest }, i) => {
        const row = rows[i]!, logprobs = logSoftmax(row);
        const order = [...row.keys()].sort((a, b) => row[b]! - row[a]! || a - b);
        assertEquals(candidates.map(({ token }) => token), order.slice(0, k));
        for (const { token, logprob } of candidates) {
          if (logprob !== logprobs[token]) assertAlmostEquals(logprob, logprobs[token]!, 1e-5);
        }
        const covered = candidates.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0);
        assertAlmostEquals(rest, 1 - covered, 1e-5);
      });
    }
  });

  law("score agrees with logits", async (context) => {
    const prompt = context.tokens(17);
    using session = context.open(prompt);
    const [scores, rows] = await Promise.all([
      session.score({ last: 9 }),
      session.logits({ last: 10 }),
    ]);
    assertEquals(scores.length, 9);
    scores.forEach((score, i) => {
      assertAlmostEquals(score, logSoftmax(rows[i]!)[prompt[8 + i]!]!, 1e-4);
    });
    assertEquals(await session.score({ last: 9 }), scores);
  });

  law("entropy agrees with logits", async (context) => {
    using session = context.open(context.tokens(8));
    const [values, rows] = await Promise.all([
      session.entropy({ last: 5 }),
      session.logits({ last: 5 }),
    ]);
    assertEquals(values.length, 5);
    values.forEach((value, i) => assertAlmostEquals(value, entropy(rows[i]!), 1e-5));
  });

  law("hidden states belong to a layer and a position", async (context) => {
    const prompt = context.tokens(11);
    using session = context.open(prompt);
    using shorter = context.open(prompt.slice(0, 9));
    const [all, first, before] = await Promise.all([
      session.hidden(1, { last: 3 }),
      session.hidden(0),
      shorter.hidden(1),
    ]);
    assertEquals(all.length, 3);
    assertEquals(all[0], before[0]);
    assert(first[0]!.some((value, i) => value !== all[2]![i]), "layers 0 and 1 are equal");
  });

  law("tree rows equal forked appends and leave the session as it was", async (context) => {
    const prompt = context.tokens(13);
    using session = context.open(prompt);
    const tokens = context.tokens(7), parents = [-1, 0, 0, -1, 2, 3, 4];
    const rows = await session.tree({ tokens, parents });
    assertEquals(rows.length, 7);
    const check = async (given: readonly Float32Array[]) => {
      for (let node = 0; node < tokens.length; node++) {
        const path: number[] = [];
        for (let at = node; at >= 0; at = parents[at]!) path.unshift(tokens[at]!);
        assertEquals(given[node], await context.fresh([...prompt, ...path]), `node ${node}`);
      }
    };
    await check(rows);
    assertEquals(session.tokens, prompt);
    assertEquals(await session.logits(), [await context.fresh(prompt)]);
    await check(await session.tree({ tokens, parents })); // now that the prompt is computed
    await assertRejects(() => session.tree({ tokens: [1, 2], parents: [1, -1] }), RangeError);
  });

  law("sample is the same for the same seed, alone or with others", async (context) => {
    const prompt = context.tokens(9);
    using session = context.open(prompt);
    const first = await session.sample({ sampling: warm, topLogprobs: 2 });
    const crowd = Array.from({ length: 6 }, (_, i) => context.open(context.tokens(3 + 5 * i)));
    const [again, drawn] = await Promise.all([
      session.sample({ sampling: warm, topLogprobs: 2 }),
      Promise.all(crowd.map((other) => other.sample({ sampling: warm }))),
    ]);
    assertEquals(again, first);
    assertEquals(drawn.length, 6);
    const [row] = await session.logits();
    assertAlmostEquals(first.logprob, logSoftmax(row!)[first.token]!, 1e-5);
    assertEquals(first.top.length, 2);
    assertEquals(session.tokens, prompt); // sample does not append
    for (const other of crowd) other[Symbol.dispose]();
  });

  law("different seeds draw different tokens", async (context) => {
    using session = context.open(context.tokens(9));
    const seeds = Array.from({ length: 40 }, (_, i) => seedFrom(i));
    const drawn = await Promise.all(
      seeds.map((seed) => session.sample({ sampling: { ...warm, temperature: 3, seed } })),
    );
    assert(new Set(drawn.map(({ token }) => token)).size > 3);
  });

  law(
    "a masked draw is the likeliest allowed token with the noise, and tells what the mask allows",
    async (context) => {
      using session = context.open(context.tokens(9));
      const [row] = await session.logits();
      const vocab = row!.length;
      const best = row![argMax(row!)]!;
      for (const [step, keep] of [[1, 5], [2, 2], [3, 40]] as const) {
        const mask = new Uint32Array(Math.ceil(vocab / 32));
        for (let token = 0; token < vocab; token++) {
          if (token * step % 41 < keep) mask[token >> 5]! |= 1 << (token & 31);
        }
        for (const temperature of [1, 0.7]) {
          const sampling = { ...warm, temperature, seed: seedFrom(step) };
          const { token, mass } = await session.sample({ sampling, mask, mass: true });
          const shape = { promptTokens: [], completionTokens: [], position: session.length };
          const expected = sampleRow(row!, { ...shape, sampling, mask, topLogprobs: 0 });
          assertEquals(token, expected.token);
          if (mass === undefined) continue; // not every model can tell
          let all = 0, allowed = 0;
          row!.forEach((logit, id) => {
            const weight = Math.exp((logit - best) / temperature);
            all += weight;
            if ((mask[id >> 5]! >>> (id & 31) & 1) === 1) allowed += weight;
          });
          assertAlmostEquals(mass, allowed / all, 1e-6);
        }
      }
    },
  );

  law("the mask is respected, and may be reused once the ask is made", async (context) => {
    const words = Math.ceil(context.model.vocab!.size / 32);
    using session = context.open(context.tokens(5));
    const mask = new Uint32Array(words);
    const allowed = context.tokens(8);
    const draws = allowed.map((token) => {
      mask.fill(0);
      mask[token >>> 5]! |= 1 << (token & 31);
      return session.sample({ sampling: warm, mask });
    });
    const drawn = await Promise.all(draws);
    assertEquals(drawn.map(({ token }) => token), allowed);
    mask.fill(0);
    await assertRejects(() => session.sample({ sampling: warm, mask }), RangeError);
    await session.logits(); // the refusal was that ask's alone
  });

  law("penalties count the prompt and the completion apart", async (context) => {
    const prompt = context.tokens(6);
    using session = context.open(prompt);
    const { token } = await session.sample({ sampling: greedySampling });
    const penalised = { ...greedySampling, presencePenalty: 2, frequencyPenalty: 2 };
    // What stands in the prompt is not penalised by these two.
    assertEquals((await session.sample({ sampling: penalised })).token, token);
    await assertPenalised(context, [...prompt, token]);
  });
}

/** The repetition penalty sees all tokens: with a huge one, a token once drawn is not drawn again. */
async function assertPenalised(context: LawModel, tokens: number[]): Promise<void> {
  using session = context.open(tokens);
  const seen = new Set(tokens);
  const [row] = await session.logits();
  const unseen = [...row!.keys()].filter((token) => !seen.has(token));
  const best = unseen.reduce((a, b) => row![b]! > row![a]! ? b : a);
  const bias = [...seen].map((token) => [token, 1000] as const);
  const sampling = { ...greedySampling, logitBias: bias, repetitionPenalty: 1e9 };
  const { token } = await session.sample({ sampling });
  const biased = row![best]! > 1e-3 ? best : token;
  assertEquals(token, biased);
}
