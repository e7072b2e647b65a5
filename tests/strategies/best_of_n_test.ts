import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { seedFrom } from "../../runtime/mod.ts";
import { runStrategy, StrategyParamError } from "../../strategies/mod.ts";
import { requestOf, runToEnd } from "../conformance/_strategy_run.ts";
import { hashModel } from "../fakes/mod.ts";

Deno.test("best-of-n returns the most likely of what sample draws, in order", async () => {
  const model = hashModel({ stopBias: 1 });
  for (const score of ["mean_logprob", "sum_logprob"] as const) {
    for (let seed = 1; seed <= 15; seed++) {
      const shared = { sampling: { seed: seedFrom(seed) }, logprobs: 0, stop: ["ab", "c"] };
      const samples = await runToEnd(requestOf("sample", model, { ...shared, choices: 6 }));
      const best = await runToEnd(
        requestOf("best-of-n", model, {
          ...shared,
          choices: 3,
          params: { num_samples: 6, score },
        }),
      );
      best.result.choices.forEach((choice, i) => {
        assertEquals(best.choices[i], samples.choices[choice.sample!]);
        if (i > 0) assertEquals(choice.score! <= best.result.choices[i - 1]!.score!, true);
        assertAlmostEquals(choice.mean_logprob!, choice.sum_logprob! / choice.tokens!, 1e-12);
        assertEquals(choice.score, choice[score]);
      });
      assertEquals(best.result.usage.drawnTokens, samples.result.usage.drawnTokens);
      assertEquals(best.result.metrics, { samples: 6 });
    }
  }
});

Deno.test("best-of-n's best beats every sample left out", async () => {
  const model = hashModel({ stopBias: 1 });
  const all = await runToEnd(requestOf("best-of-n", model, {
    params: { num_samples: 8 },
    choices: 8,
  }));
  const top = await runToEnd(requestOf("best-of-n", model, { params: { num_samples: 8 } }));
  assertEquals(top.choices[0], all.choices[0]);
  const scores = all.result.choices.map(({ score }) => score!);
  assertEquals(scores, [...scores].sort((a, b) => b - a));
  assertEquals(new Set(all.result.choices.map(({ sample }) => sample)).size, 8);
});

Deno.test("best-of-n refuses more choices than samples, naming n", () => {
  const error = assertThrows(
    () => runStrategy(requestOf("best-of-n", hashModel(), { choices: 5 })),
    StrategyParamError,
  );
  assertEquals(error.param, "n");
});

Deno.test("best-of-n traces every sample, best first", async () => {
  const { result } = await runToEnd(requestOf("best-of-n", hashModel(), { trace: "steps" }));
  assertEquals(result.steps.length, 4);
  assertEquals(result.steps.map(({ type }) => type), ["sample", "sample", "sample", "sample"]);
});
