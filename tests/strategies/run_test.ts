import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { z } from "zod";
import { CapabilityError, choiceConstraint, seedFrom } from "../../runtime/mod.ts";
import {
  type Chunk,
  defineStrategy,
  type Finish,
  runStrategy,
  StrategyParamError,
} from "../../strategies/mod.ts";
import { requestOf, runToEnd } from "../conformance/_strategy_run.ts";
import { fakeVocab, hashModel, tableModel, textOnly } from "../fakes/mod.ts";

const base = {
  name: "scripted",
  summary: "does what a test says",
  source: "tests",
  streaming: "bursts",
  constrained: false,
  params: z.strictObject({}),
  sequences: () => 1,
} as const;

/** A strategy that yields fixed chunks and counts how far it got. */
function scripted(chunks: readonly Chunk[], finish: Finish = { reasons: ["stop"] }) {
  const state = { yielded: 0, closed: false };
  const strategy = defineStrategy({
    ...base,
    needs: { model: ["generate"] },
    async *run() {
      try {
        for (const chunk of chunks) {
          state.yielded++;
          yield await Promise.resolve(chunk);
        }
        return finish;
      } finally {
        state.closed = true;
      }
    },
  });
  return { strategy, state };
}

const vocab = fakeVocab({ pieces: ["a", "b", "ab", "STOP", "xST", "OPy", "é", "€uro"] });
const model = tableModel({ vocab, table: { "": { a: 1 } } });
const end = [...vocab.stopTokens][0]!;

function tokensOf(...pieces: string[]): number[] {
  return pieces.map((piece) => piece === "<end>" ? end : vocab.encode(piece)[0]!);
}

function chunk(...pieces: string[]): Chunk {
  const tokens = tokensOf(...pieces);
  return {
    choice: 0,
    tokens,
    logprobs: tokens.map((token, i) => ({
      token,
      logprob: -i,
      top: [{ token, logprob: -i }, { token: end, logprob: -9 }],
    })),
  };
}

async function play(
  chunks: readonly Chunk[],
  overrides: Parameters<typeof requestOf>[2] = {},
  finish?: Finish,
) {
  const { strategy, state } = scripted(chunks, finish);
  const outcome = await runToEnd(requestOf(strategy, model, { prompt: [0], ...overrides }));
  return { ...outcome, state };
}

Deno.test("a stop string inside, across and after tokens never shows", async () => {
  const cases: [Chunk[], string][] = [
    [[chunk("a", "STOP", "b")], "a"],
    [[chunk("a", "xST"), chunk("OPy", "b")], "ax"],
    [[chunk("xST"), chunk("a"), chunk("xST"), chunk("OPy")], "xSTax"],
    [[chunk("STOP")], ""],
  ];
  for (const [chunks, text] of cases) {
    const { choices: [choice] } = await play(chunks, { stop: ["STOP"], logprobs: 1 });
    assertEquals([choice!.text, choice!.reason, choice!.stoppedBy], [text, "stop", "STOP"]);
    const bytes = choice!.logprobs.flatMap((entry) => [...entry.bytes]);
    assertEquals(new TextDecoder().decode(Uint8Array.from(bytes)), text);
  }
});

Deno.test("a token cut by a stop string keeps its first bytes and its log-probability", async () => {
  const chunks = [chunk("a", "xST", "OPy")];
  const { choices: [choice], result } = await play(chunks, { stop: ["STOP"], logprobs: 2 });
  assertEquals(choice!.tokens, tokensOf("a", "xST"));
  assertEquals(choice!.logprobs[1], {
    token: "x",
    bytes: [0x78],
    logprob: -1,
    top: [
      { token: "xST", bytes: [0x78, 0x53, 0x54], logprob: -1 },
      { token: "<end>", bytes: [], logprob: -9 },
    ],
  });
  assertEquals(result.usage.completionTokens, 3);
});

Deno.test("text is held back only as long as it may become a stop string", async () => {
  const { events } = await play([chunk("a"), chunk("xST"), chunk("a"), chunk("b")], {
    stop: ["STOP"],
  });
  const texts = events.map((event) => event.type === "text" ? event.text : "finish");
  assertEquals(texts, ["a", "xSTa", "b", "finish"]);
});

Deno.test("text held back comes out when the completion ends another way", async () => {
  for (const last of [chunk("<end>"), chunk()]) {
    const { choices: [choice] } = await play([chunk("xST"), last], { stop: ["STOP"] });
    assertEquals([choice!.text, choice!.reason], ["xST", "stop"]);
  }
  const { choices: [cut] } = await play([chunk("xST", "OPy")], { stop: ["STOP"], maxTokens: 1 });
  assertEquals([cut!.text, cut!.reason], ["xST", "length"]);
});

Deno.test("the stop string that is complete first wins, the longest of equals", async () => {
  const chunks = [chunk("a", "b", "a", "b")];
  const stoppedBy = async (stop: string[]) => (await play(chunks, { stop })).choices[0]!;
  assertEquals((await stoppedBy(["ba", "ab"])).stoppedBy, "ab");
  const both = await stoppedBy(["b", "ab", "aba"]);
  assertEquals([both.stoppedBy, both.text], ["ab", ""]);
});

Deno.test("stop strings match whole characters and may have several bytes", async () => {
  const { choices: [choice] } = await play([chunk("é", "a", "€uro")], { stop: ["a€"] });
  assertEquals([choice!.text, choice!.stoppedBy], ["é", "a€"]);
});

Deno.test("the result does not depend on how tokens are grouped into chunks", async () => {
  const pieces = ["a", "xST", "ab", "é", "xST", "OPy", "b"];
  const whole = await play([chunk(...pieces)], { stop: ["STOP", "éé"] });
  const single = await play(pieces.map((piece) => chunk(piece)), { stop: ["STOP", "éé"] });
  assertEquals(single.choices, whole.choices);
});

Deno.test("tokens beyond maxTokens are dropped and a strategy that goes on is stopped", async () => {
  const chunks = Array.from({ length: 50 }, () => chunk("a", "b"));
  const { choices: [choice], result, state } = await play(chunks, { maxTokens: 3 });
  assertEquals([choice!.text, choice!.reason], ["aba", "length"]);
  assertEquals(result.usage.completionTokens, 3);
  assertEquals(state, { yielded: 3, closed: true }); // one chunk more, which may have been the end
});

Deno.test("a strategy that ends by itself after the last token still reports", async () => {
  const finish: Finish = { reasons: ["length"], metrics: { proposed: 4 }, choices: [{ score: 2 }] };
  const { result } = await play([chunk("a"), chunk("b")], { maxTokens: 2 }, finish);
  assertEquals([result.metrics, result.choices], [{ proposed: 4 }, [{ score: 2 }]]);
});

Deno.test("a stop token at the limit is a stop; ignored, it is a token without text", async () => {
  const chunks = [chunk("a", "<end>")];
  const { choices: [stopped] } = await play(chunks, { maxTokens: 2 });
  assertEquals([stopped!.reason, stopped!.stoppedBy, stopped!.tokens], ["stop", end, [0]]);
  const { choices: [ignored] } = await play(chunks, { maxTokens: 2, ignoreStop: true });
  assertEquals([ignored!.reason, ignored!.text, ignored!.tokens], ["length", "a", [0, end]]);
});

Deno.test("choices end one by one and do not mix", async () => {
  const chunks = [chunk("a"), { ...chunk("b"), choice: 1 }, chunk("<end>"), chunk("a"), {
    ...chunk("ab"),
    choice: 1,
  }];
  const finish: Finish = { reasons: ["stop", "length"] };
  const { choices } = await play(chunks, { choices: 2 }, finish);
  assertEquals(choices.map(({ text, reason }) => [text, reason]), [["a", "stop"], [
    "bab",
    "length",
  ]]);
});

Deno.test("a search that finds fewer choices finishes only those", async () => {
  const { choices } = await play([chunk("a")], { choices: 3 }, { reasons: ["stop"] });
  assertEquals(choices.length, 1);
});

Deno.test("mistakes of a strategy are errors, not output", async () => {
  await assertRejects(() => play([{ choice: 0, tokens: [0] }], { logprobs: 0 }), TypeError);
  await assertRejects(() => play([{ choice: 1, tokens: [0] }]), RangeError, "no choice 1");
});

Deno.test("events arrive before the strategy goes on", async () => {
  const { strategy, state } = scripted([chunk("a"), chunk("b")]);
  const run = runStrategy(requestOf(strategy, model, { prompt: [0] }));
  const first = await run.next();
  assertEquals(first.value, { type: "text", choice: 0, text: "a", tokens: [0] });
  assertEquals(state.yielded, 1);
  await run.return({} as never);
  assert(state.closed);
});

Deno.test("sessions and forks a strategy forgot are closed, and it cannot use them", async () => {
  const hash = hashModel();
  const leaky = defineStrategy({
    ...base,
    needs: { model: ["edit", "logits"] },
    async *run({ models }) {
      const session = models.model.session([1, 2]);
      const fork = session.fork().fork();
      fork.append([3]);
      await fork.logits();
      yield { choice: 0, tokens: [1] };
      return { reasons: ["stop"] };
    },
  });
  const { result } = await runToEnd(requestOf(leaky, hash));
  assertEquals(hash.stats.openSessions, 0);
  assertEquals(result.usage.drawnTokens, 1);
});

Deno.test("asks nobody waits for do not become unhandled rejections", async () => {
  const hash = hashModel();
  const hasty = defineStrategy({
    ...base,
    needs: { model: ["edit", "logits"] },
    async *run({ models }) {
      using session = models.model.session([1, 2]);
      session.logits(); // never awaited: rejects when the session closes
      yield await Promise.resolve({ choice: 0, tokens: [1] });
      return { reasons: ["stop"] };
    },
  });
  await runToEnd(requestOf(hasty, hash));
  assertEquals(hash.stats.pendingAsks, 0);
});

Deno.test("trace events are kept at level steps", async () => {
  const tracing = defineStrategy({
    ...base,
    needs: { model: [] },
    async *run({ trace }) {
      trace({ type: "trial", at: 1 });
      yield await Promise.resolve({ choice: 0, tokens: [1] });
      return { reasons: ["stop"] };
    },
  });
  const steps = async (trace: "none" | "summary" | "steps") =>
    (await runToEnd(requestOf(tracing, model, { trace, prompt: [0] }))).result.steps;
  assertEquals(await steps("steps"), [{ type: "trial", at: 1 }]);
  assertEquals(await steps("summary"), []);
});

Deno.test("nested parameters are refused with a dotted path", () => {
  const nested = defineStrategy({
    ...base,
    needs: { model: [] },
    params: z.strictObject({ rule: z.strictObject({ gamma: z.int().max(3) }) }),
    async *run() {
      yield await Promise.resolve({ choice: 0, tokens: [1] });
      return { reasons: ["stop"] };
    },
  });
  const run = (params: Record<string, unknown>) => () =>
    runStrategy(requestOf(nested, model, { params, prompt: [0] }));
  assertEquals(assertThrows(run({ rule: { gamma: 4 } }), StrategyParamError).param, "rule.gamma");
  assertEquals(
    assertThrows(run({ rule: { gamma: 1, x: 1 } }), StrategyParamError).param,
    "rule.x",
  );
  assertEquals(assertThrows(run({}), StrategyParamError).param, "rule");
});

Deno.test("a constraint for a strategy that ignores constraints is refused", () => {
  const { strategy } = scripted([]);
  const constraint = choiceConstraint(vocab, ["ab"]);
  assertThrows(
    () => runStrategy(requestOf(strategy, model, { constraint, prompt: [0] })),
    CapabilityError,
    "constrained",
  );
});

Deno.test("text-only models stream text, and have no log-probabilities to give", async () => {
  const hash = hashModel({ stopBias: 1 });
  const texts = { model: textOnly(hash) };
  for (const name of ["greedy", "sample", "self-consistency"]) {
    for (const seed of [1, 2, 3]) {
      const overrides = { stop: ["ab", "c"], sampling: { seed: seedFrom(seed) } };
      const expected = await runToEnd(requestOf(name, hash, overrides));
      const got = await runToEnd(requestOf(name, texts, overrides));
      assertEquals(got.choices[0]!.text, expected.choices[0]!.text);
      assertEquals(got.choices[0]!.reason, expected.choices[0]!.reason);
      assertEquals(got.result.usage, expected.result.usage);
    }
    assertThrows(
      () => runStrategy(requestOf(name, texts, { logprobs: 1 })),
      CapabilityError,
      "log-probabilities",
    );
  }
  assertThrows(() => runStrategy(requestOf("best-of-n", texts)), CapabilityError);
});
