import { assert, assertEquals, assertRejects } from "@std/assert";
import { choiceConstraint, type Constraint, ConstraintError, seedFrom } from "../../runtime/mod.ts";
import { requestOf, runToEnd } from "../conformance/_strategy_run.ts";
import { assertDistribution } from "../_statistics.ts";
import { fakeVocab, hashModel, predicateConstraint, tableModel } from "../fakes/mod.ts";

Deno.test("sample with one choice equals the first of three, which differ", async () => {
  const model = hashModel({ stopBias: -Infinity });
  for (let seed = 1; seed <= 20; seed++) {
    const sampling = { seed: seedFrom(seed) };
    const one = await runToEnd(requestOf("sample", model, { sampling }));
    const three = await runToEnd(requestOf("sample", model, { sampling, choices: 3 }));
    assertEquals(three.choices[0], one.choices[0]);
    assertEquals(new Set(three.choices.map(({ text }) => text)).size, 3);
  }
});

Deno.test("sample draws all choices of a token in one step, and streams every step", async () => {
  const model = hashModel({ stopBias: -Infinity });
  const { events } = await runToEnd(requestOf("sample", model, { choices: 5, maxTokens: 12 }));
  assertEquals([model.stats.steps, model.stats.rows], [12, 60]);
  assertEquals(events.filter(({ type }) => type === "text").length, 60);
  assertEquals(events.slice(0, 5).map(({ choice }) => choice), [0, 1, 2, 3, 4]);
});

Deno.test("sample stops drawing a choice at its stop string, the others go on", async () => {
  const model = hashModel({ stopBias: -Infinity });
  const stop = ["ab", "n", "ko", "di"];
  const request = requestOf("sample", model, { choices: 4, maxTokens: 60, stop });
  const { choices, result } = await runToEnd(request);
  assert(choices.some(({ reason }) => reason === "stop"));
  // Tokens drawn are those emitted: nothing was drawn beyond a stop string.
  assertEquals(result.usage.drawnTokens, result.usage.completionTokens);
  const longest = Math.max(
    ...choices.map(({ tokens, reason }) => tokens.length + (reason === "stop" ? 2 : 0)),
  );
  assert(model.stats.steps <= longest, `${model.stats.steps} steps for ${longest} tokens`);
});

Deno.test("a single choice stops the model at once", async () => {
  const vocab = fakeVocab({ pieces: ["x", "S", "T"] });
  const model = tableModel({
    vocab,
    table: { "": { x: 1 }, x: { S: 1 }, S: { T: 1 }, T: { x: 1 } },
  });
  for (const name of ["greedy", "sample"]) {
    const before = model.stats.steps;
    const { choices, result } = await runToEnd(
      requestOf(name, model, { prompt: [1], stop: ["ST"], maxTokens: 500 }),
    );
    assertEquals(choices[0]!.text, "Tx");
    assertEquals([model.stats.steps - before, result.usage.drawnTokens], [4, 4]);
  }
});

Deno.test("greedy computes equal choices once", async () => {
  const model = hashModel({ stopBias: -Infinity });
  const { choices, result } = await runToEnd(
    requestOf("greedy", model, { choices: 4, maxTokens: 10, logprobs: 1 }),
  );
  for (const choice of choices) assertEquals(choice, choices[0]);
  assertEquals([result.usage.completionTokens, result.usage.drawnTokens], [40, 10]);
  assertEquals(model.stats.rows, 10);
});

Deno.test("sample follows the distribution of sequences", async () => {
  const vocab = fakeVocab({ pieces: ["a", "b"], chat: false });
  const model = tableModel({
    vocab,
    table: {
      "": { a: 0.5, b: 0.2, "<end>": 0.3 },
      a: { a: 0.1, b: 0.6, "<end>": 0.3 },
      b: { a: 0.7, "<end>": 0.3 },
    },
  });
  const exact: Record<string, number> = {
    "": 0.3,
    a: 0.5 * 0.3,
    b: 0.2 * 0.3,
    aa: 0.5 * 0.1,
    ab: 0.5 * 0.6,
    ba: 0.2 * 0.7,
  };
  const texts = Object.keys(exact);
  const counts = texts.map(() => 0);
  const runs = Array.from({ length: 4000 }, (_, seed) =>
    runToEnd(requestOf("sample", model, {
      prompt: [2], // the stop token: a context without an entry of its own
      maxTokens: 2,
      sampling: { seed: seedFrom(seed) },
    })));
  for (const { choices } of await Promise.all(runs)) counts[texts.indexOf(choices[0]!.text)]!++;
  assertDistribution(counts, Object.values(exact), 1e-6);
});

Deno.test("under a constraint each token follows the masked distribution", async () => {
  const vocab = fakeVocab({ pieces: ["a", "b", "c"], chat: false });
  const model = tableModel({
    vocab,
    table: {
      "": { a: 0.4, b: 0.4, c: 0.1, "<end>": 0.1 },
      a: { a: 0.2, b: 0.2, c: 0.3, "<end>": 0.3 },
    },
  });
  // First a or c, weighted 0.4 to 0.1; after a the end or b, 0.3 to 0.2; after c only the end.
  const exact: Record<string, number> = { a: 0.8 * 0.6, ab: 0.8 * 0.4, c: 0.2 };
  const texts = Object.keys(exact);
  const masked = choiceConstraint(vocab, texts);
  const judging = predicateConstraint({
    vocab,
    viable: (text) => texts.some((whole) => whole.startsWith(text)),
    accepting: (text) => texts.includes(text),
  });
  for (const constraint of [masked, judging] as Constraint[]) {
    const counts = texts.map(() => 0);
    const runs = Array.from({ length: 2000 }, (_, seed) =>
      runToEnd(requestOf("sample", model, {
        prompt: [3],
        constraint,
        sampling: { seed: seedFrom(seed) },
      })));
    for (const { choices } of await Promise.all(runs)) {
      counts[texts.indexOf(choices[0]!.text)]!++;
      assertEquals(choices[0]!.reason, "stop");
    }
    assertDistribution(counts, Object.values(exact), 5e-7);
  }
});

Deno.test("a constraint with nothing left ends a completion whose stop tokens are ignored", async () => {
  const model = hashModel();
  const constraint = choiceConstraint(model.vocab, ["abc"]);
  const { choices: [choice] } = await runToEnd(
    requestOf("sample", model, { constraint, ignoreStop: true }),
  );
  assertEquals([choice!.text, choice!.reason], ["abc", "stop"]);
});

Deno.test("dead ends and failures of a constraint are errors that name it", async () => {
  const model = hashModel();
  const base = { name: "picky", start: () => 0, accepting: () => false };
  const cases: [Constraint<number>, string][] = [
    [{ ...base, advance: () => undefined }, "allows no token"],
    [{ ...base, advance: () => fail() }, "failed on token"],
    [{ ...base, advance: (n) => n, mask: () => fail() }, "failed to give a mask"],
    [{ ...base, advance: () => undefined, mask: (_, out) => void out.fill(7) }, "refuses token"],
  ];
  for (const [constraint, message] of cases) {
    const request = requestOf("sample", model, { constraint: constraint as Constraint });
    const error = await assertRejects(() => runToEnd(request), ConstraintError, message);
    assertEquals(error.constraint, "picky");
    assertEquals([model.stats.openSessions, model.stats.pendingAsks], [0, 0]);
  }
});

function fail(): never {
  throw new Error("the predicate broke");
}
