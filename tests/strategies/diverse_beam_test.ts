import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { encodePrompt, logSoftmax, type TokenId } from "../../runtime/mod.ts";
import { runStrategy, StrategyParamError } from "../../strategies/mod.ts";
import { chatPrompt, requestOf, runToEnd } from "../conformance/_strategy_run.ts";
import { fakeModel } from "../fakes/_model.ts";
import { allCapabilities, type FakeModel, fakeVocab, hashModel } from "../fakes/mod.ts";
import { diverseBeamReference, type ReferenceOptions } from "./_diverse_beam_reference.ts";

/** A hash model whose embeddings depend on the token alone. */
function embeddingModel(seed: number) {
  const vocab = fakeVocab({ pieces: [..."abcdefgh"], chat: false });
  const vectors = Array.from(
    { length: vocab.size },
    (_, token) =>
      Float32Array.of(Math.sin(token * 1.7 + seed), Math.cos(token * 0.9), Math.sin(token * 3.1)),
  );
  const rows = new Map<string, Float32Array>();
  const logits = (tokens: readonly TokenId[]) => {
    let state = seed;
    for (const token of tokens) state = Math.imul(state ^ (token + 1), 0x9e3779b1) >>> 0;
    return Float32Array.from(
      { length: vocab.size },
      (_, i) => vocab.isSpecial(i) ? -9 : 2 * Math.sin(state % 1009 + 2.3 * i),
    );
  };
  const model = fakeModel({
    vocab,
    logits(tokens) {
      const key = tokens.join();
      if (!rows.has(key)) rows.set(key, logits(tokens));
      return rows.get(key)!;
    },
    hidden: (tokens, layer) => layer === 0 ? vectors[tokens.at(-1)!]! : Float32Array.of(NaN),
  });
  const norm = (a: Float32Array) => Math.sqrt(a.reduce((sum, x) => sum + x * x, 0));
  const cosine = (a: TokenId, b: TokenId) => {
    const [x, y] = [vectors[a]!, vectors[b]!];
    return x.reduce((sum, value, i) => sum + value * y[i]!, 0) / norm(x) / norm(y);
  };
  const logprobsAfter = (tokens: readonly TokenId[]) => [...logSoftmax(logits(tokens))];
  return { model, cosine, logprobsAfter };
}

Deno.test("diverse-beam equals the algorithm written over whole rows, for every function", async () => {
  const steps = 7;
  for (let seed = 1; seed <= 6; seed++) {
    const { model, cosine, logprobsAfter } = embeddingModel(seed);
    for (const fn of ["hamming", "cumulative", "ngram", "embedding"] as const) {
      for (const [groups, width] of [[3, 1], [2, 2], [3, 2], [1, 3]] as const) {
        for (const strength of [0.5, 4]) {
          const shared: ReferenceOptions = {
            prompt: [0],
            logprobsAfter,
            groups,
            width,
            strength,
            fn,
            ngramSize: 1 + seed % 3,
            temperature: seed,
            cosine,
            steps,
            isExempt: (token) => model.vocab.isSpecial(token),
          };
          const expected = diverseBeamReference(shared);
          const { choices, result } = await runToEnd(requestOf("diverse-beam", model, {
            prompt: [0],
            ignoreStop: true,
            maxTokens: steps,
            choices: groups * width,
            params: {
              num_beams: groups * width,
              num_groups: groups,
              diversity: strength,
              diversity_fn: fn,
              ngram_size: shared.ngramSize,
              cumulative_temperature: shared.temperature,
              length_penalty: 0,
              early_stopping: "never",
            },
          }));
          assertEquals(choices.length, groups * width);
          choices.forEach(({ tokens }, i) => {
            const { group, rank, score, raw_logprob: raw } = result.choices[i]!;
            // Best of each group, then second bests.
            assertEquals([group, rank], [i % groups + 1, Math.floor(i / groups) + 1]);
            const wanted = expected[group! - 1]![rank! - 1]!;
            assertEquals(tokens, wanted.tokens, `${fn} ${groups}x${width} strength ${strength}`);
            assertAlmostEquals(score!, wanted.score, 1e-4);
            assertAlmostEquals(raw!, wanted.raw, 1e-4);
          });
        }
      }
    }
  }
});

Deno.test("diverse-beam without a charge gives every group what beam finds", async () => {
  for (let seed = 1; seed <= 10; seed++) {
    const model = hashModel({ seed, stopBias: 0.5 });
    const beam = await runToEnd(
      requestOf("beam", model, { params: { num_beams: 3 }, choices: 3, logprobs: 1 }),
    );
    const diverse = await runToEnd(requestOf("diverse-beam", model, {
      params: { num_beams: 9, num_groups: 3, diversity: 0 },
      choices: 9,
      logprobs: 1,
    }));
    diverse.result.choices.forEach(({ rank, score, sum_logprob: sum }, i) => {
      assertEquals(diverse.choices[i], beam.choices[rank! - 1]);
      assertEquals([score, sum], [
        beam.result.choices[rank! - 1]!.score,
        beam.result.choices[rank! - 1]!.sum_logprob,
      ]);
    });
  }
});

Deno.test("diverse-beam's first group depends on no other", async () => {
  const model = hashModel({ stopBias: 0.5 });
  const run = async (params: Readonly<Record<string, unknown>>) => {
    const { choices, result } = await runToEnd(
      requestOf("diverse-beam", model, { params, logprobs: 0 }),
    );
    return [choices, result.choices];
  };
  const beam = await run({ num_beams: 2, num_groups: 1 });
  for (const groups of [2, 5]) {
    for (const fn of ["hamming", "cumulative", "ngram", "embedding"]) {
      for (const diversity of [0.5, 100]) {
        assertEquals(
          await run({ num_beams: 2 * groups, num_groups: groups, diversity, diversity_fn: fn }),
          beam,
        );
      }
    }
  }
});

Deno.test("a huge Hamming charge makes all groups differ at every place", async () => {
  for (let seed = 1; seed <= 5; seed++) {
    const model = hashModel({ seed });
    const { choices } = await runToEnd(requestOf("diverse-beam", model, {
      params: { num_beams: 12, diversity: 1e6 },
      choices: 12,
      ignoreStop: true,
      sampling: { logitBias: [...model.vocab.stopTokens].map((token) => [token, -100] as const) },
      maxTokens: 10,
    }));
    for (let place = 0; place < 10; place++) {
      assertEquals(new Set(choices.map(({ tokens }) => tokens[place])).size, 12);
    }
  }
});

Deno.test("diverse-beam's raw_logprob is the model's own, and no score is above it", async () => {
  const model = hashModel({ stopBias: 0.5 });
  const prompt = encodePrompt(chatPrompt, model.vocab, { model: model.id });
  const [end] = [...model.vocab.stopTokens];
  for (const fn of ["hamming", "cumulative", "ngram"]) {
    const { choices, result } = await runToEnd(requestOf("diverse-beam", model, {
      params: { num_beams: 6, num_groups: 3, diversity_fn: fn, diversity: 1, length_penalty: 0 },
      choices: 6,
      maxTokens: 12,
    }));
    for (const [i, { tokens, reason }] of choices.entries()) {
      const all = reason === "stop" ? [...tokens, end!] : tokens;
      using session = model.session([...prompt, ...all]);
      const scores = await session.score({ last: all.length });
      const { raw_logprob: raw, score, sum_logprob: sum, tokens: count } = result.choices[i]!;
      assertAlmostEquals(raw!, scores.reduce((a, b) => a + b, 0), 1e-4);
      assert(score! <= raw! + 1e-9);
      assertEquals([score, count], [sum, all.length]);
    }
  }
});

/** Distinct bigrams over all bigrams of some token lists. */
function distinct2(lists: readonly (readonly TokenId[])[]): number {
  const bigrams = lists.flatMap((tokens) =>
    tokens.slice(1).map((token, i) => `${tokens[i]} ${token}`)
  );
  return new Set(bigrams).size / bigrams.length;
}

Deno.test("distinct-2 does not fall as the charge grows, over a set of prompts", async () => {
  const model = hashModel({ window: 2, stopBias: -Infinity });
  const mean = async (diversity: number, diversity_fn: string) => {
    let sum = 0;
    for (let start = 0; start < 20; start++) {
      const { choices } = await runToEnd(requestOf("diverse-beam", model, {
        prompt: [start % 17, start % 5],
        params: { diversity, diversity_fn },
        choices: 4,
        maxTokens: 10,
      }));
      sum += distinct2(choices.map(({ tokens }) => tokens));
    }
    return sum / 20;
  };
  for (const fn of ["hamming", "ngram"]) {
    const values = [];
    for (const diversity of [0, 0.5, 2, 8]) values.push(await mean(diversity, fn));
    assertEquals(values, [...values].sort((a, b) => a - b), fn);
    assert(values[3]! > 2 * values[0]!, `${fn}: ${values}`);
  }
});

Deno.test("diverse-beam computes all groups of a token in one step", async () => {
  const model = hashModel({ stopBias: -Infinity });
  await runToEnd(requestOf("diverse-beam", model, {
    params: { num_beams: 16, num_groups: 8, diversity: 3 },
    maxTokens: 10,
  }));
  assertEquals(model.stats.steps, 10);
  assert(model.stats.rows > 100, `${model.stats.rows} rows`);
});

Deno.test("diverse-beam traces every hypothesis with its scores", async () => {
  const { result } = await runToEnd(
    requestOf("diverse-beam", hashModel(), { trace: "steps", choices: 4 }),
  );
  const hypotheses = result.steps.filter(({ type }) => type === "hypothesis");
  assertEquals(hypotheses, result.choices.map((scores) => ({ type: "hypothesis", ...scores })));
});

Deno.test("diverse-beam refuses what does not fit, by name", () => {
  const blind = hashModel({ capabilities: allCapabilities.filter((name) => name !== "hidden") });
  const cases: [Readonly<Record<string, unknown>>, string, FakeModel?][] = [
    [{ num_beams: 6, num_groups: 4 }, "num_groups"],
    [{ num_beams: 2, num_groups: 4 }, "num_groups"],
    [{ num_beams: 0 }, "num_beams"],
    [{ diversity: -0.1 }, "diversity"],
    [{ diversity_fn: "jaccard" }, "diversity_fn"],
    [{ diversity_fn: "embedding" }, "diversity_fn", blind],
    [{ ngram_size: 0 }, "ngram_size"],
    [{ cumulative_temperature: 0 }, "cumulative_temperature"],
  ];
  for (const [params, param, model = hashModel()] of cases) {
    const error = assertThrows(
      () => runStrategy(requestOf("diverse-beam", model, { params })),
      StrategyParamError,
    );
    assertEquals(error.param, param);
  }
  // One group compares with nobody.
  runStrategy(
    requestOf("diverse-beam", blind, { params: { num_groups: 1, diversity_fn: "embedding" } }),
  );
});
