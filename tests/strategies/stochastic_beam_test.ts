import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { greedySampling, seedFrom, warpedLogprobs } from "../../runtime/mod.ts";
import { conditioned } from "../../strategies/_gumbel_search.ts";
import { assertDistribution } from "../_statistics.ts";
import {
  type Outcome,
  requestOf,
  type RequestOverrides,
  runToEnd,
} from "../conformance/_strategy_run.ts";
import { fakeVocab, hashModel, tableModel } from "../fakes/mod.ts";

const vocab = fakeVocab({ pieces: ["a", "b", "c"], chat: false });

/** Nine completions of two tokens, or fewer and shorter ones with a stop token. */
function toy(end = 0) {
  const rest = 1 - end;
  return tableModel({
    vocab,
    table: {
      "": { a: 0.5, b: 0.3, c: 0.2 },
      a: { a: 0.6 * rest, b: 0.3 * rest, c: 0.1 * rest, ...end > 0 ? { "<end>": end } : {} },
      b: { a: 0.1, b: 0.1, c: 0.8 },
      c: { a: 0.3, b: 0.3, c: 0.4 },
    },
  });
}

const exact: Readonly<Record<string, number>> = {
  aa: 0.3,
  ab: 0.15,
  ac: 0.05,
  ba: 0.03,
  bb: 0.03,
  bc: 0.24,
  ca: 0.06,
  cb: 0.06,
  cc: 0.08,
};
const texts = Object.keys(exact);

function draw(seed: number, beams: number, overrides: RequestOverrides = {}): Promise<Outcome> {
  return runToEnd(requestOf("stochastic-beam", toy(), {
    prompt: [3], // the stop token: a context without an entry of its own
    maxTokens: 2,
    params: { num_beams: beams },
    choices: beams,
    sampling: { seed: seedFrom(seed) },
    ...overrides,
  }));
}

const many = (runs: number, beams: number, overrides?: RequestOverrides) =>
  Promise.all(Array.from({ length: runs }, (_, seed) => draw(seed, beams, overrides)));

Deno.test("stochastic-beam's first choice follows the distribution, ordered pairs that without replacement", async () => {
  const first = texts.map(() => 0);
  const pairs = texts.flatMap((a) => texts.filter((b) => b !== a).map((b) => a + b));
  const seen = pairs.map(() => 0);
  for (const { choices: [one, two] } of await many(6000, 2)) {
    first[texts.indexOf(one!.text)]!++;
    seen[pairs.indexOf(one!.text + two!.text)]!++;
  }
  assertDistribution(first, Object.values(exact), 5e-7, "first");
  const p = (pair: string) => {
    const [a, b] = [exact[pair.slice(0, 2)]!, exact[pair.slice(2)]!];
    return a * b / (1 - a);
  };
  assertDistribution(seen, pairs.map(p), 5e-7, "pairs");
});

Deno.test("stochastic-beam returns everything once when there is no more", async () => {
  for (const beams of [9, 20]) {
    for (const { choices, result } of await many(20, beams, { choices: 9 })) {
      assertEquals(choices.map(({ text }) => text).sort(), texts);
      choices.forEach(({ text }, i) => {
        const { logprob, weight, inclusion_probability: inclusion } = result.choices[i]!;
        assertAlmostEquals(logprob!, Math.log(exact[text]!), 1e-6);
        assertAlmostEquals(weight!, exact[text]!, 1e-6);
        assertEquals(inclusion, 1);
      });
      assert(!("threshold" in result.metrics));
    }
  }
});

Deno.test("stochastic-beam returns no completion twice, by falling perturbed log-probability", async () => {
  const model = hashModel({ stopBias: 0.5 });
  for (let seed = 1; seed <= 20; seed++) {
    const { choices, result } = await runToEnd(requestOf("stochastic-beam", model, {
      params: { num_beams: 8 },
      choices: 8,
      sampling: { seed: seedFrom(seed) },
    }));
    assertEquals(new Set(choices.map(({ tokens, reason }) => [tokens, reason].join())).size, 8);
    const values = result.choices.map(({ perturbed }) => perturbed!);
    assertEquals(values, [...values].sort((a, b) => b - a));
    assert(result.metrics.threshold! <= values.at(-1)!);
  }
});

Deno.test("stochastic-beam's weights estimate probabilities without bias, for fewer choices too", async () => {
  const runs = 5000;
  for (const choices of [1, 3]) {
    const weights = texts.map((): number[] => []);
    const included = texts.map(() => 0), expected = texts.map(() => 0);
    for (const outcome of await many(runs, 4, { choices })) {
      const { threshold } = outcome.result.metrics;
      const kept = texts.map(() => 0);
      outcome.choices.forEach(({ text }, i) => {
        const { weight, perturbed } = outcome.result.choices[i]!;
        assert(perturbed! > threshold!);
        kept[texts.indexOf(text)] = weight!;
        included[texts.indexOf(text)]!++;
      });
      kept.forEach((weight, i) => weights[i]!.push(weight));
    }
    weights.forEach((sample, i) => {
      const mean = sample.reduce((a, b) => a + b, 0) / runs;
      const variance = sample.reduce((a, b) => a + (b - mean) ** 2, 0) / (runs - 1);
      const p = exact[texts[i]!]!;
      const z = (mean - p) / Math.sqrt(variance / runs);
      // 18 means at 5 standard errors: a correct sampler fails once in 100,000 sets of seeds.
      assert(Math.abs(z) < 5, `${texts[i]}: mean weight ${mean}, probability ${p}, z ${z}`);
      expected[i] = p;
    });
    if (choices === 1) assertDistribution(included, expected, 1e-6, "first of four");
  }
});

Deno.test("stochastic-beam gives fewer choices the same, with the next value as threshold", async () => {
  const model = hashModel({ stopBias: 0.5 });
  const run = (choices: number) =>
    runToEnd(requestOf("stochastic-beam", model, { params: { num_beams: 6 }, choices }));
  const [all, some] = [await run(6), await run(2)];
  assertEquals(some.choices, all.choices.slice(0, 2));
  assertEquals(some.result.metrics.threshold, all.result.choices[2]!.perturbed);
});

Deno.test("stochastic-beam's log-probabilities are those of the distribution asked for", async () => {
  const model = hashModel({ stopBias: 0.5 });
  const sampling = { ...greedySampling, temperature: 0.7, topK: 6, frequencyPenalty: 0.3 };
  const { choices, result } = await runToEnd(requestOf("stochastic-beam", model, {
    prompt: [1, 2],
    choices: 4,
    sampling,
    ignoreStop: true,
    maxTokens: 8,
  }));
  for (const [i, { tokens }] of choices.entries()) {
    let sum = 0;
    for (const [j, token] of tokens.entries()) {
      using session = model.session([1, 2, ...tokens.slice(0, j)]);
      const [row] = await session.logits();
      const completionTokens = tokens.slice(0, j);
      sum += warpedLogprobs(row!, { sampling, promptTokens: [1, 2], completionTokens })[token]!;
    }
    assertAlmostEquals(result.choices[i]!.logprob!, sum, 1e-9);
  }
});

Deno.test("stochastic-beam keeps complete candidates among those that go on", async () => {
  const model = toy(0.5);
  const { choices } = await runToEnd(requestOf("stochastic-beam", model, {
    prompt: [3],
    maxTokens: 2,
    params: { num_beams: 16 },
    choices: 16,
  }));
  // Two-token completions from a: three, and the one that stops.
  assertEquals(
    choices.map(({ text, reason }) => `${text} ${reason}`).sort(),
    [
      "a stop",
      ...texts.map((text) => `${text} length`),
    ].sort(),
  );
});

Deno.test("stochastic-beam computes all beams of a token in one step", async () => {
  const model = hashModel({ stopBias: -Infinity });
  await runToEnd(requestOf("stochastic-beam", model, { params: { num_beams: 16 }, maxTokens: 10 }));
  assertEquals(model.stats.steps, 10);
  assert(model.stats.rows > 100, `${model.stats.rows} rows`);
});

Deno.test("conditioned() maps the largest to its new value and keeps the order", () => {
  const values = [-700, -40, -3, -0.5, 1, 1.9999999, 2];
  for (const top of [-300, -1, 0, 5]) {
    const mapped = values.map((value) => conditioned(value, 2, top));
    assertEquals(mapped.at(-1), top);
    assertEquals(mapped, [...mapped].sort((a, b) => a - b));
    mapped.forEach((value, i) => {
      // The plain form: -ln(e^-top - e^-highest + e^-value), where it does not overflow.
      const plain = -Math.log(Math.exp(-top) - Math.exp(-2) + Math.exp(-values[i]!));
      if (Number.isFinite(plain)) assertAlmostEquals(value, plain, 1e-6);
    });
  }
});
