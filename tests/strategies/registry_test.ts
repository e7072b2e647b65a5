import { assertEquals, assertThrows } from "@std/assert";
import { NotFoundError } from "../../runtime/mod.ts";
import { getStrategy, listStrategies } from "../../strategies/mod.ts";
import { type StrategyCase, testStrategy } from "../conformance/strategy.ts";

const greedy = getStrategy("greedy");
const sample = getStrategy("sample");

/** What each strategy declares. Strategies without an entry are tested with their defaults. */
const cases: Readonly<Record<string, StrategyCase>> = {
  sample: { same: [{ params: {}, sampling: { temperature: 0 }, as: greedy }] },
  beam: {
    params: [{}, { num_beams: 3, length_penalty: 0, early_stopping: true }, {
      num_beams: 8,
      early_stopping: "never",
    }],
    same: [
      { params: { num_beams: 1 }, as: greedy },
      { params: { num_beams: 1, early_stopping: "never", length_penalty: 2 }, as: greedy },
      {
        params: { num_beams: 1 },
        sampling: { presencePenalty: 1, logitBias: [[3, 2]] },
        as: greedy,
      },
    ],
  },
  "best-of-n": {
    params: [{}, { num_samples: 3, score: "sum_logprob" }],
    same: [
      { params: { num_samples: 1 }, as: sample },
      { params: {}, sampling: { temperature: 0 }, as: greedy },
    ],
  },
  "self-consistency": {
    maxChoices: 1,
    params: [{}, { num_samples: 2, answer: "text" }, { answer: "last-line" }],
    same: [
      { params: { num_samples: 1 }, as: sample },
      { params: { answer: "text" }, sampling: { temperature: 0 }, as: greedy },
    ],
  },
};

for (const strategy of listStrategies()) testStrategy(strategy, cases[strategy.name]);

Deno.test("cases name strategies that exist", () => {
  const names = listStrategies().map(({ name }) => name);
  assertEquals(Object.keys(cases).filter((name) => !names.includes(name)), []);
});

Deno.test("listStrategies() is sorted and names are kebab-case", () => {
  const names = listStrategies().map(({ name }) => name);
  assertEquals(names, [...names].sort());
  for (const name of names) assertEquals(/^[a-z]+(-[a-z]+)*$/.test(name), true, name);
});

Deno.test("getStrategy() names the known ones when it fails", () => {
  const error = assertThrows(() => getStrategy("gready"), NotFoundError, "greedy");
  assertEquals([error.kind, error.subject], ["strategy", "gready"]);
});
