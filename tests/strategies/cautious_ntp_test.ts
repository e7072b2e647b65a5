import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  type Constraint,
  encodePrompt,
  greedySampling,
  type SamplingParams,
  seedFrom,
  type TokenId,
  warpedLogprobs,
} from "../../runtime/mod.ts";
import { logSoftmax } from "../../runtime/sampling.ts";
import { type Schedule, trialsAt } from "../../strategies/cautious_ntp.ts";
import { runStrategy, StrategyParamError } from "../../strategies/mod.ts";
import { assertDistribution, chiSquare, chiSquareTail } from "../_statistics.ts";
import { chatPrompt, type Outcome, requestOf, runToEnd } from "../conformance/_strategy_run.ts";
import { type FakeModel, fakeVocab, hashModel, tableModel } from "../fakes/mod.ts";
import { fakeEngine } from "../runtime/engine/_fixtures.ts";

function scheduleOf(changes: Partial<Schedule> = {}): Schedule {
  return { n_max: 10, h_min: 0.01, h_max: 1.5, schedule: "code", ...changes };
}

interface Trials {
  readonly type: "trials";
  readonly choice: number;
  readonly position: number;
  readonly entropy: number;
  readonly winner: number;
  readonly trials: readonly { readonly tokens: readonly TokenId[]; readonly perplexity: number }[];
}

function branchings({ result }: Outcome): readonly Trials[] {
  return result.steps.filter(({ type }) => type === "trials") as unknown as readonly Trials[];
}

Deno.test("trialsAt() gives the published table for both schedules", () => {
  const entropies = [0.17, 0.2, 0.3, 0.43, 0.5, 0.92, 1.2, 1.45, 1.5, 3];
  const counts = (schedule: Schedule["schedule"]) =>
    entropies.map((entropy) => trialsAt(entropy, scheduleOf({ schedule })));
  assertEquals(counts("paper"), [1, 1, 1, 2, 3, 6, 7, 9, 10, 10]);
  assertEquals(counts("code"), [1, 2, 2, 3, 3, 6, 8, 9, 10, 10]);
  const second = (schedule: Schedule["schedule"]) => {
    let low = 0, high = 1.5;
    for (let i = 0; i < 60; i++) {
      const middle = (low + high) / 2;
      if (trialsAt(middle, scheduleOf({ schedule })) >= 2) high = middle;
      else low = middle;
    }
    return high;
  };
  assertAlmostEquals(second("paper"), 0.308, 1e-9);
  assertAlmostEquals(second("code"), 0.01 + 1.49 / 9, 1e-9); // 0.1756
});

Deno.test("trialsAt() grows from 1 at h_min to n_max at h_max, and falls for negative", () => {
  for (const schedule of ["code", "paper", "negative", "fixed"] as const) {
    for (const most of [1, 2, 7, 64]) {
      const at = (entropy: number) => trialsAt(entropy, scheduleOf({ n_max: most, schedule }));
      const counts = Array.from({ length: 400 }, (_, i) => at(i / 200));
      assert(counts.every((count) => count >= 1 && count <= most));
      const sign = schedule === "negative" ? -1 : 1;
      assert(counts.every((count, i) => i === 0 || sign * (count - counts[i - 1]!) >= 0));
      const [low, high] = schedule === "negative" ? [most, 1] : [1, most];
      assertEquals([at(0), at(0.01), at(1.5), at(20)], [
        ...schedule === "fixed" ? [most, most] : [low, low],
        high,
        high,
      ]);
    }
  }
});

Deno.test("the winner of one-token trials follows the closed form, not the model", async () => {
  const probabilities = { a: 0.4, b: 0.3, c: 0.2, d: 0.1 };
  const vocab = fakeVocab({ pieces: Object.keys(probabilities), chat: false });
  const model = tableModel({ vocab, table: { "": probabilities } });
  const p = Object.values(probabilities);
  const entropy = -p.reduce((sum, x) => sum + x * Math.log(x), 0);
  for (const schedule of ["code", "fixed"] as const) {
    const most = schedule === "fixed" ? 3 : 10;
    const count = trialsAt(entropy, scheduleOf({ schedule, n_max: most }));
    assertEquals(count, schedule === "fixed" ? 3 : 8);
    // S(v)^N - S'(v)^N: the winner is the most probable of N independent draws.
    const best = p.map((x) => {
      const mass = (below: (y: number) => boolean) =>
        p.reduce((sum, y) => below(y) ? sum + y : sum, 0);
      return mass((y) => y <= x) ** count - mass((y) => y < x) ** count;
    });
    const texts = p.flatMap((_, i) => p.map((_, j) => "abcd"[i]! + "abcd"[j]!));
    const runs = Array.from(
      { length: 3000 },
      (_, seed) =>
        runToEnd(requestOf("cautious-ntp", model, {
          prompt: [1],
          maxTokens: 2,
          params: { schedule, n_max: most, stop_chars: "abcd" },
          sampling: { seed: seedFrom(seed) },
        })),
    );
    const counts = texts.map(() => 0);
    for (const { choices } of await Promise.all(runs)) counts[texts.indexOf(choices[0]!.text)]!++;
    const product = (of: readonly number[]) => of.flatMap((x) => of.map((y) => x * y));
    assertDistribution(counts, product(best), 5e-7, schedule);
    const plain = chiSquare(counts, product(p));
    assert(chiSquareTail(plain.value, plain.degrees) < 1e-12, "the model's own law fits as well");
  }
});

Deno.test("trials of several tokens follow their exact law, and rejected ones leave no trace", async () => {
  const vocab = fakeVocab({ pieces: [..."slyz"], chat: false });
  const next = { y: 0.7, z: 0.3 };
  const model = tableModel({ vocab, table: { "": { s: 0.5, l: 0.5 }, s: next, l: next } });
  // Of two trials ly has perplexity 1.7, s 2 and lz 2.6. After s come two trials of one token. Noise
  // of a rejected lz would favour z after s.
  const exact: Readonly<Record<string, number>> = {
    ly: 1 - 0.65 ** 2,
    lz: 0.15 ** 2,
    sy: (0.65 ** 2 - 0.15 ** 2) * (1 - 0.3 ** 2),
    sz: (0.65 ** 2 - 0.15 ** 2) * 0.3 ** 2,
  };
  const texts = Object.keys(exact);
  const counts = texts.map(() => 0);
  const runs = Array.from({ length: 8000 }, (_, seed) =>
    runToEnd(requestOf("cautious-ntp", model, {
      prompt: [4],
      maxTokens: 2,
      params: { schedule: "fixed", n_max: 2, stop_chars: "syz" },
      sampling: { seed: seedFrom(seed) },
    })));
  for (const { choices } of await Promise.all(runs)) counts[texts.indexOf(choices[0]!.text)]!++;
  assertDistribution(counts, Object.values(exact), 1e-6);
});

/** What trials were scored by, computed anew from the model's own sessions. */
async function rescore(
  model: FakeModel,
  before: readonly TokenId[],
  tokens: readonly TokenId[],
  { sampling, promptLength, raw }: {
    readonly sampling: SamplingParams;
    readonly promptLength: number;
    readonly raw: boolean;
  },
): Promise<{ perplexity: number; entropy: number }> {
  let sum = 0, entropy = 0;
  for (const [i, token] of tokens.entries()) {
    const sequence = [...before, ...tokens.slice(0, i)];
    using session = model.session(sequence);
    const [row] = await session.logits();
    const logprobs = raw ? Float64Array.from(logSoftmax(row!)) : warpedLogprobs(row!, {
      sampling,
      promptTokens: sequence.slice(0, promptLength),
      completionTokens: sequence.slice(promptLength),
    });
    sum -= logprobs[token]!;
    if (i > 0) continue;
    for (const x of logprobs) if (x > -Infinity) entropy -= Math.exp(x) * x;
  }
  return { perplexity: Math.exp(sum / tokens.length), entropy };
}

Deno.test("the trial kept has the smallest perplexity, computed anew for all of them", async () => {
  const model = hashModel({ stopBias: -2 });
  const prompt = encodePrompt(chatPrompt, model.vocab, { model: model.id });
  const sampling = { ...greedySampling, temperature: 0.8, topP: 0.9, presencePenalty: 0.4 };
  let seen = 0;
  for (const scope of ["warped", "raw"] as const) {
    for (let seed = 1; seed <= 6; seed++) {
      const own = { ...sampling, seed: seedFrom(seed) };
      const outcome = await runToEnd(requestOf("cautious-ntp", model, {
        params: { scope, n_max: 6, stop_chars: "abcd" },
        sampling: own,
        trace: "steps",
      }));
      const { tokens, reason } = outcome.choices[0]!;
      const end = [...model.vocab.stopTokens];
      const completion = reason === "stop" ? [...tokens, ...end] : tokens;
      for (const { position, entropy, winner, trials } of branchings(outcome)) {
        const before = [...prompt, ...completion.slice(0, position)];
        const options = { sampling: own, promptLength: prompt.length, raw: scope === "raw" };
        const scores = await Promise.all(
          trials.map((trial) => rescore(model, before, trial.tokens, options)),
        );
        trials.forEach(({ perplexity }, i) =>
          assertAlmostEquals(perplexity, scores[i]!.perplexity, 1e-4)
        );
        assertAlmostEquals(entropy, scores[0]!.entropy, 1e-5);
        assertEquals(trials.length, trialsAt(entropy, scheduleOf({ n_max: 6 })));
        const best = Math.min(...trials.map(({ perplexity }) => perplexity));
        assertEquals(winner, trials.findIndex(({ perplexity }) => perplexity === best));
        const kept = trials[winner]!.tokens;
        assertEquals(completion.slice(position, position + kept.length), kept);
        seen++;
      }
    }
  }
  assert(seen > 30, `only ${seen} branchings`);
});

Deno.test("every trial ends at its first clause end, a stop token, a stop string or a limit", async () => {
  const model = hashModel({ stopBias: -2 });
  const { vocab } = model;
  const ended = { clause: 0, stop: 0, text: 0, limit: 0, trial: 0 };
  for (let seed = 1; seed <= 40; seed++) {
    const outcome = await runToEnd(requestOf("cautious-ntp", model, {
      params: { stop_chars: "abc", trial_max_tokens: 8, n_max: 5 },
      sampling: { seed: seedFrom(seed) },
      stop: ["po", "mn"],
      maxTokens: 11,
      trace: "steps",
    }));
    for (const { position, trials } of branchings(outcome)) {
      for (const { tokens } of trials) {
        const text = vocab.decode(tokens);
        assert(!/[abc]./.test(text) && !/(po|mn)./.test(text), text);
        assert(!tokens.slice(0, -1).some((token) => vocab.stopTokens.has(token)));
        if (/[abc]$/.test(text)) ended.clause++;
        else if (vocab.stopTokens.has(tokens.at(-1)!)) ended.stop++;
        else if (position + tokens.length === 11) ended.limit++;
        else if (tokens.length === 8) ended.trial++;
        else {
          assert(/[on]$/.test(text), text); // its first character may lie before the trial
          ended.text++;
        }
      }
    }
  }
  assert(Object.values(ended).every((count) => count > 0), JSON.stringify(ended));
});

Deno.test("trials are rows of the same steps", async () => {
  const model = hashModel({ stopBias: -Infinity });
  const { result } = await runToEnd(requestOf("cautious-ntp", model, {
    params: { schedule: "fixed", n_max: 8, stop_chars: "!", trial_max_tokens: 5 },
    maxTokens: 10,
  }));
  // Two branchings: a row that all first tokens are drawn from, then four rows per trial.
  assertEquals([model.stats.steps, model.stats.rows], [10, 2 * (1 + 8 * 4)]);
  assertEquals(result.metrics, { branchings: 2, trials: 16, drawn: 80, kept: 10 });
  assertEquals([result.usage.drawnTokens, result.usage.completionTokens], [80, 10]);
});

Deno.test("each choice counts its own tokens, and the first of three is the single choice", async () => {
  const model = hashModel({ stopBias: -Infinity });
  const overrides = { params: { stop_chars: "abc" }, logprobs: 1 };
  const one = await runToEnd(requestOf("cautious-ntp", model, overrides));
  const { choices, result } = await runToEnd(
    requestOf("cautious-ntp", model, { ...overrides, choices: 3 }),
  );
  assertEquals(choices[0], one.choices[0]);
  assertEquals(result.choices[0], one.result.choices[0]);
  assertEquals(new Set(choices.map(({ text }) => text)).size, 3);
  const sum = (key: string) => result.choices.reduce((total, choice) => total + choice[key]!, 0);
  assertEquals(sum("drawn"), result.usage.drawnTokens);
  assertEquals(sum("kept"), result.usage.completionTokens);
});

Deno.test("a winning trial's cache equals a fresh prefill", async () => {
  await using setup = fakeEngine({ pages: 400 });
  for (let seed = 1; seed <= 5; seed++) {
    const { choices: [choice] } = await runToEnd(requestOf("cautious-ntp", setup.engine, {
      params: { stop_chars: "abc" },
      sampling: { seed: seedFrom(seed) },
      logprobs: 0,
      ignoreStop: true,
    }));
    const prompt = encodePrompt(chatPrompt, setup.engine.vocab, { model: setup.engine.id });
    using session = setup.engine.session([...prompt, ...choice!.tokens]);
    const scores = await session.score({ last: choice!.tokens.length });
    choice!.logprobs.forEach(({ logprob }, i) => assertAlmostEquals(logprob, scores[i]!, 1e-5));
  }
});

Deno.test("under raw a greedy request draws its trials, and else takes the likeliest token", async () => {
  const model = hashModel({ stopBias: -Infinity });
  const run = (params: Readonly<Record<string, unknown>>) =>
    runToEnd(requestOf("cautious-ntp", model, {
      params: { scope: "raw", ...params },
      sampling: { temperature: 0 },
      trace: "steps",
    }));
  const greedy = await runToEnd(requestOf("greedy", model, { sampling: { temperature: 0 } }));
  assertEquals((await run({ h_min: 19, h_max: 20 })).choices, greedy.choices);
  const [first] = branchings(await run({ stop_chars: "abc", trial_max_tokens: 6 }));
  assert(new Set(first!.trials.map(({ tokens }) => tokens.join())).size > 3);
});

Deno.test("trials in a dead end of the constraint are dropped", async () => {
  const model = hashModel();
  const { vocab } = model;
  const letters = vocab.encode("abcdefgh");
  const constraint: Constraint<string> = {
    name: "only a goes on",
    start: () => "",
    advance: (state, token) =>
      state === "" && letters.includes(token) || state === "a" && token === letters[1]
        ? state + vocab.piece(token)
        : undefined,
    accepting: (state) => state === "ab",
  };
  let seen = 0;
  for (let seed = 1; seed <= 10; seed++) {
    const outcome = await runToEnd(requestOf("cautious-ntp", model, {
      params: { schedule: "fixed", n_max: 32, stop_chars: "!" },
      constraint: constraint as Constraint,
      sampling: { seed: seedFrom(seed), logitBias: [[letters[0]!, 2]] },
      trace: "steps",
    }));
    assertEquals(outcome.choices[0]!.text, "ab");
    seen += branchings(outcome)[0]!.trials.filter(({ perplexity }) => perplexity === null).length;
  }
  assert(seen > 50, `only ${seen} dead ends`);
});

Deno.test("cautious-ntp refuses thresholds and characters that make no sense, by name", () => {
  const cases: [Readonly<Record<string, unknown>>, string][] = [
    [{ h_min: 1.5 }, "h_max"],
    [{ h_min: 2, h_max: 1 }, "h_max"],
    [{ h_min: -0.1 }, "h_min"],
    [{ n_max: 65 }, "n_max"],
    [{ n_max: 1.5 }, "n_max"],
    [{ trial_max_tokens: 0 }, "trial_max_tokens"],
    [{ stop_chars: "" }, "stop_chars"],
    [{ stop_chars: "!", stop_match: "exact" }, "stop_chars"],
    [{ schedule: "linear" }, "schedule"],
  ];
  for (const [params, param] of cases) {
    const error = assertThrows(
      () => runStrategy(requestOf("cautious-ntp", hashModel(), { params })),
      StrategyParamError,
    );
    assertEquals(error.param, param);
  }
});
