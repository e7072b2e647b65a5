import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  choiceConstraint,
  ConstraintError,
  encodePrompt,
  greedySampling,
  logSoftmax,
  type TokenId,
} from "../../runtime/mod.ts";
import { runStrategy, StrategyParamError } from "../../strategies/mod.ts";
import { chatPrompt, requestOf, runToEnd } from "../conformance/_strategy_run.ts";
import { type FakeModel, fakeVocab, hashModel, tableModel } from "../fakes/mod.ts";
import { hfBeamSearch, type LogprobsAfter } from "./_hf_beam.ts";

/** Log-probabilities of every next token, read through the model's own session. */
async function tabulate(
  model: FakeModel,
  prompt: readonly TokenId[],
  depth: number,
): Promise<Map<string, readonly number[]>> {
  const table = new Map<string, readonly number[]>();
  let sequences: (readonly TokenId[])[] = [prompt];
  for (let i = 0; i < depth; i++) {
    const rows = await Promise.all(sequences.map(async (tokens) => {
      using session = model.session(tokens);
      const [row] = await session.logits();
      return [...logSoftmax(row!)];
    }));
    rows.forEach((row, j) => table.set(sequences[j]!.join(), row));
    sequences = sequences.flatMap((tokens) =>
      Array.from({ length: model.vocab.size }, (_, token) => [...tokens, token])
    );
  }
  return table;
}

/** All completions of at most `depth` tokens with their scores, best first. */
function exhaustive(
  logprobsAfter: LogprobsAfter,
  { vocab }: FakeModel,
  options: { prompt: readonly TokenId[]; depth: number; penalty: number },
) {
  const done: { tokens: TokenId[]; score: number }[] = [];
  const visit = (tokens: TokenId[], sum: number) => {
    const isStopped = tokens.length > 0 && vocab.stopTokens.has(tokens.at(-1)!);
    if (isStopped || tokens.length === options.depth) {
      done.push({ tokens, score: sum / tokens.length ** options.penalty });
      return;
    }
    logprobsAfter([...options.prompt, ...tokens]).forEach((logprob, token) =>
      visit([...tokens, token], sum + logprob)
    );
  };
  visit([], 0);
  return done.sort((a, b) => b.score - a.score);
}

const tinyVocab = fakeVocab({ pieces: ["a", "b"], chat: false });

Deno.test("beam equals exhaustive search when the width covers everything", async () => {
  const depth = 4; // 1 + 2 + 4 + 8 * 3 = 31 completions, 24 candidates at the last step
  for (let seed = 1; seed <= 15; seed++) {
    const model = hashModel({ vocab: tinyVocab, seed, spread: 2 });
    const table = await tabulate(model, [0], depth);
    const logprobsAfter: LogprobsAfter = (tokens) => table.get(tokens.join())!;
    for (const penalty of [0, 1, 0.5]) {
      const expected = exhaustive(logprobsAfter, model, { prompt: [0], depth, penalty });
      const { choices, result } = await runToEnd(requestOf("beam", model, {
        prompt: [0],
        params: { num_beams: 32, length_penalty: penalty, early_stopping: "never" },
        maxTokens: depth,
        choices: 31,
      }));
      assertEquals(choices.length, 31);
      choices.forEach(({ tokens, reason }, i) => {
        const { tokens: best, score } = expected[i]!;
        const shown = best.filter((token) => !tinyVocab.stopTokens.has(token));
        assertEquals([tokens, reason], [shown, shown.length < best.length ? "stop" : "length"]);
        assertAlmostEquals(result.choices[i]!.score!, score, 1e-5);
      });
    }
  }
});

Deno.test("beam equals the algorithm of Hugging Face transformers", async () => {
  const depth = 5;
  const vocab = fakeVocab({ pieces: ["a", "b", "c"], chat: false });
  let early = 0;
  for (let seed = 1; seed <= 25; seed++) {
    const model = hashModel({ vocab, seed, spread: 2, stopBias: 1 });
    const table = await tabulate(model, [0], depth);
    for (const numBeams of [2, 3, 5]) {
      for (const earlyStopping of [true, false, "never"] as const) {
        for (const lengthPenalty of [-1, 0, 0.7, 1, 2]) {
          const expected = hfBeamSearch({
            logprobsAfter: (tokens) => table.get(tokens.join())!,
            prompt: [0],
            eos: vocab.stopTokens,
            numBeams,
            lengthPenalty,
            earlyStopping,
            maxNewTokens: depth,
          });
          const { choices, result } = await runToEnd(requestOf("beam", model, {
            prompt: [0],
            params: {
              num_beams: numBeams,
              length_penalty: lengthPenalty,
              early_stopping: earlyStopping,
            },
            maxTokens: depth,
            choices: numBeams,
          }));
          if (result.metrics.steps! < depth) early++;
          assertEquals(
            choices.map(({ tokens }) => tokens),
            expected.map(({ tokens }) => tokens.filter((token) => !vocab.stopTokens.has(token))),
          );
          result.choices.forEach(({ score }, i) =>
            assertAlmostEquals(score!, expected[i]!.score, 1e-5)
          );
        }
      }
    }
  }
  assert(early > 50, `only ${early} searches stopped early`);
});

Deno.test("beam finds what greedy misses", async () => {
  const vocab = fakeVocab({ pieces: ["a", "b", "c", "d"], chat: false });
  const model = tableModel({
    vocab,
    table: {
      "": { a: 0.6, b: 0.4 },
      a: { c: 0.5, d: 0.5 },
      b: { d: 1 },
      ac: { "<end>": 1 },
      ad: { "<end>": 1 },
      bd: { "<end>": 1 },
    },
  });
  const run = async (
    name: string,
  ) => (await runToEnd(requestOf(name, model, { prompt: [4], sampling: { temperature: 0 } })));
  assertEquals((await run("greedy")).choices[0]!.text, "ac");
  const { choices, result } = await run("beam");
  assertEquals(choices[0]!.text, "bd");
  assertAlmostEquals(result.choices[0]!.sum_logprob!, Math.log(0.4), 1e-6);
  assertAlmostEquals(result.choices[0]!.score!, Math.log(0.4) / 3, 1e-6);
});

Deno.test("beam scores are the sums of the log-probabilities it shows", async () => {
  const model = hashModel({ stopBias: 0.5 });
  const { choices, result } = await runToEnd(
    requestOf("beam", model, { choices: 4, logprobs: 1, ignoreStop: true, maxTokens: 8 }),
  );
  choices.forEach(({ logprobs }, i) => {
    const sum = logprobs.reduce((total, { logprob }) => total + logprob, 0);
    assertAlmostEquals(result.choices[i]!.sum_logprob!, sum, 1e-9);
    assertAlmostEquals(result.choices[i]!.score!, sum / 8, 1e-9);
  });
  const scores = result.choices.map(({ score }) => score!);
  assertEquals(scores, [...scores].sort((a, b) => b - a));
});

Deno.test("beam computes all beams of a token in one step", async () => {
  const model = hashModel({ stopBias: -Infinity });
  await runToEnd(requestOf("beam", model, { params: { num_beams: 16 }, maxTokens: 10 }));
  assertEquals(model.stats.steps, 10);
  assert(model.stats.rows > 100, `${model.stats.rows} rows`);
});

Deno.test("beam ignores temperature and filters, not bias and penalties", async () => {
  const model = hashModel({ stopBias: -1 });
  const run = async (sampling: Partial<typeof greedySampling>) =>
    (await runToEnd(requestOf("beam", model, { sampling }))).choices[0]!.text;
  const plain = await run({});
  assertEquals(await run({ temperature: 0.1, topK: 1, topP: 0.1, minP: 1, typicalP: 0.1 }), plain);
  const [first] = model.vocab.encode(plain);
  const banned = await run({ logitBias: [[first!, -100]] });
  assert(!banned.includes(plain[0]!), banned);
  assert(await run({ frequencyPenalty: 2 }) !== plain);
});

Deno.test("beam with a constraint finds the most likely text that satisfies it", async () => {
  const words = ["abba", "cab", "a b", "no", "cafe", "g"];
  for (let seed = 1; seed <= 10; seed++) {
    const model = hashModel({ seed, spread: 2 });
    const [end] = [...model.vocab.stopTokens];
    const prompt = encodePrompt(chatPrompt, model.vocab, { model: model.id });
    const scored = await Promise.all(words.map(async (text) => {
      const tokens = [...model.vocab.encode(text), end!];
      using session = model.session([...prompt, ...tokens]);
      const scores = await session.score({ last: tokens.length });
      return { text, sum: scores.reduce((a, b) => a + b, 0) };
    }));
    scored.sort((a, b) => b.sum - a.sum);
    const { choices, result } = await runToEnd(requestOf("beam", model, {
      constraint: choiceConstraint(model.vocab, words),
      params: { num_beams: 16, length_penalty: 0 },
      choices: 10,
    }));
    // Six texts are all there is: ten choices were asked for, six come.
    assertEquals(choices.map(({ text }) => text), scored.map(({ text }) => text));
    result.choices.forEach((choice, i) =>
      assertAlmostEquals(choice.sum_logprob!, scored[i]!.sum, 1e-4)
    );
  }
});

Deno.test("beam drops beams in dead ends, and fails where all are", async () => {
  const model = hashModel();
  const { vocab } = model;
  const [a, b] = vocab.encode("ab");
  const deadEnds = (good: boolean) => ({
    name: "dead ends",
    start: () => "",
    advance: (state: string, token: TokenId) =>
      state === "" && (token === a || token === b) ? vocab.piece(token) : undefined,
    accepting: (state: string) => good && state === "a",
  });
  const { choices } = await runToEnd(
    requestOf("beam", model, { constraint: deadEnds(true), choices: 2 }),
  );
  assertEquals(choices.map(({ text }) => text), ["a"]);
  await assertRejects(
    () => runToEnd(requestOf("beam", model, { constraint: deadEnds(false) })),
    ConstraintError,
    "dead ends",
  );
  assertEquals(model.stats.openSessions, 0);
});

Deno.test("beam refuses more choices than beams, naming n", () => {
  const error = assertThrows(
    () => runStrategy(requestOf("beam", hashModel(), { params: { num_beams: 2 }, choices: 3 })),
    StrategyParamError,
  );
  assertEquals([error.param, error.strategy], ["n", "beam"]);
});
