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
import { trialsAt } from "../../strategies/cautious_ntp.ts";
import { runStrategy, StrategyParamError } from "../../strategies/mod.ts";
import { chatPrompt, type Outcome, requestOf, runToEnd } from "../conformance/_strategy_run.ts";
import { type FakeModel, hashModel } from "../fakes/mod.ts";
import { fakeEngine } from "../runtime/engine/_fixtures.ts";

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
  const schedule = { n_max: 6, h_min: 0.01, h_max: 1.5, schedule: "code" } as const;
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
        assertEquals(trials.length, trialsAt(entropy, schedule));
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
