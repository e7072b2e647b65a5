import { assert, assertEquals } from "@std/assert";
import { seedFrom } from "../../runtime/mod.ts";
import { extractAnswer } from "../../strategies/_votes.ts";
import { requestOf, runToEnd } from "../conformance/_strategy_run.ts";
import { fakeVocab, hashModel, tableModel } from "../fakes/mod.ts";

/** Answers 4 in 70 of 100 completions, 5 in the others, after one of two ways there. */
function calculator() {
  const vocab = fakeVocab({ pieces: ["so ", "thus ", "4", "5", ".", "6"] });
  return tableModel({
    vocab,
    table: {
      "": { "so ": 0.5, "thus ": 0.5 },
      "so ": { "4": 0.7, "5": 0.3 },
      "thus ": { "4": 0.7, "5": 0.3 },
      "4": { ".": 1 },
      "5": { ".": 1 },
      ".": { "<end>": 1 },
    },
  });
}

Deno.test("self-consistency returns the first sample with the most common answer", async () => {
  const model = calculator();
  let against = 0;
  for (let seed = 1; seed <= 30; seed++) {
    const shared = { sampling: { seed: seedFrom(seed) }, prompt: [5], logprobs: 1 };
    const samples = await runToEnd(requestOf("sample", model, { ...shared, choices: 7 }));
    const answers = samples.choices.map(({ text }) => extractAnswer(text, "last-number"));
    const fours = answers.filter((answer) => answer === "4").length;
    const expected = fours > 3 ? "4" : "5";
    const { choices, result } = await runToEnd(
      requestOf("self-consistency", model, { ...shared, params: { num_samples: 7 } }),
    );
    assertEquals(choices[0], samples.choices[answers.indexOf(expected)]);
    assertEquals(result.metrics, {
      samples: 7,
      answered: 7,
      distinct: new Set(answers).size,
      votes: Math.max(fours, 7 - fours),
    });
    if (answers[0] !== expected) against++;
  }
  assert(against > 0, "no vote went against the first sample");
});

Deno.test("self-consistency is right more often than one sample", async () => {
  // 70 % per sample; a majority of 15 is right in 95 % (binomial).
  const model = calculator();
  const right = async (name: string, params: Record<string, unknown>) => {
    const runs = Array.from(
      { length: 200 },
      (_, seed) =>
        runToEnd(
          requestOf(name, model, { params, prompt: [5], sampling: { seed: seedFrom(seed) } }),
        ),
    );
    return (await Promise.all(runs)).filter(({ choices }) => choices[0]!.text.includes("4")).length;
  };
  const alone = await right("sample", {});
  const together = await right("self-consistency", { num_samples: 15 });
  assert(alone < 165 && together > 175, `${alone} and ${together} of 200`);
});

Deno.test("self-consistency falls back to the first sample where there is no answer", async () => {
  const model = hashModel(); // letters only
  const { choices, result } = await runToEnd(requestOf("self-consistency", model));
  const { choices: [first] } = await runToEnd(requestOf("sample", model));
  assertEquals(choices[0], first);
  assertEquals([result.metrics.answered, result.metrics.votes], [0, 0]);
});

Deno.test("self-consistency looks for answers before the stop string only", async () => {
  const vocab = fakeVocab({ pieces: ["7", "#", "9"] });
  const model = tableModel({ vocab, table: { "": { "7": 1 }, "7": { "#": 1 }, "#": { "9": 1 } } });
  const { result, choices } = await runToEnd(
    requestOf("self-consistency", model, {
      prompt: [3],
      stop: ["#9"],
      params: { num_samples: 2 },
      trace: "steps",
    }),
  );
  assertEquals(choices[0]!.text, "7");
  assertEquals(result.steps, [0, 1].map((index) => ({ type: "answer", index, answer: "7" })));
  assertEquals(model.stats.steps, 3);
});
