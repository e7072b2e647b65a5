/** How many passes of the target speculation takes: chains, tables, trees and schedules. */
import { assert, assertEquals } from "@std/assert";
import { seedFrom } from "../../runtime/mod.ts";
import { getStrategy } from "../../strategies/mod.ts";
import { requestOf, runToEnd } from "../conformance/_strategy_run.ts";
import { fakeVocab, hashModel, tableModel } from "../fakes/mod.ts";

const speculative = getStrategy("speculative");
const never = { stopBias: -Infinity };

Deno.test("a draft that is the target is accepted whole: ceil(N / (gamma + 1)) steps", async () => {
  for (const verify of ["coupled", "ratio", "block"]) {
    for (const gamma of [1, 3, 4]) {
      const model = hashModel(never);
      const { result } = await runToEnd(requestOf(speculative, { model, draft: hashModel(never) }, {
        params: { verify, gamma },
        maxTokens: 30,
      }));
      const { proposed, accepted, target_steps: steps } = result.metrics;
      assertEquals(accepted, proposed);
      assertEquals([steps, model.stats.steps], [
        Math.ceil(30 / (gamma + 1)),
        Math.ceil(30 / (gamma + 1)),
      ]);
    }
  }
});

Deno.test("a draft that is always wrong costs a step per token and changes nothing", async () => {
  const vocab = fakeVocab({ pieces: ["a", "b"], chat: false });
  const model = tableModel({ vocab, table: { "": { a: 1 } } });
  const draft = tableModel({ vocab, table: { "": { b: 1 } } });
  for (const verify of ["coupled", "ratio", "block"]) {
    const run = await runToEnd(requestOf(speculative, { model, draft }, {
      params: { verify },
      prompt: [0],
      maxTokens: 12,
    }));
    assertEquals(run.choices[0]!.text, "a".repeat(12));
    assertEquals([run.result.metrics["accepted"], run.result.metrics["target_steps"]], [0, 12]);
    // 12 tokens, and the proposals of rounds that had room for them.
    assert(run.result.usage.drawnTokens > run.result.usage.completionTokens);
  }
});

Deno.test("text that repeats is proposed by every table, in fewer steps than tokens", async () => {
  const vocab = fakeVocab({ pieces: [..."abcdef"], chat: false });
  const next = Object.fromEntries(
    [..."abcdef"].map((letter, i) => [letter, { ["bcdefa"[i]!]: 1 }]),
  );
  const model = tableModel({ vocab, table: { "": { a: 1 }, ...next } });
  for (const draft of ["prompt-lookup", "suffix", "token-recycling"]) {
    const { result, choices } = await runToEnd(requestOf(speculative, { model }, {
      params: { draft, gamma: 9 },
      prompt: [0],
      maxTokens: 60,
    }));
    assertEquals(choices[0]!.text, "bcdefa".repeat(10));
    const steps = result.metrics["target_steps"]!;
    assert(steps <= 6 + 54 / 3, `${draft}: ${steps} steps`);
    assertEquals(result.usage.promptTokens, 1);
  }
});

Deno.test("a tree keeps at least as much as a chain, and follows a pick that is not the first", async () => {
  let chainSteps = 0, treeSteps = 0;
  for (let seed = 1; seed <= 10; seed++) {
    const steps = async (tree_nodes: number) => {
      const run = await runToEnd(
        requestOf(speculative, { model: hashModel({ window: 1, ...never }) }, {
          params: { draft: "token-recycling", tree_nodes },
          sampling: { seed: seedFrom(seed) },
          maxTokens: 80,
        }),
      );
      return run.result.metrics["target_steps"]!;
    };
    chainSteps += await steps(0);
    treeSteps += await steps(40);
  }
  assert(treeSteps < 0.8 * chainSteps, `${treeSteps} steps with trees, ${chainSteps} with chains`);
});

Deno.test("trees of a draft model keep more than its chains, at the same depth", async () => {
  for (const verify of ["coupled", "ratio"]) {
    let chainSteps = 0, treeSteps = 0;
    for (let seed = 1; seed <= 10; seed++) {
      const steps = async (tree_nodes: number) => {
        const models = {
          model: hashModel({ ...never }),
          draft: hashModel({ spread: 2, ...never }),
        };
        const run = await runToEnd(requestOf(speculative, models, {
          params: { tree_nodes, verify },
          sampling: { seed: seedFrom(seed) },
          maxTokens: 60,
        }));
        return run.result.metrics["target_steps"]!;
      };
      chainSteps += await steps(0);
      treeSteps += await steps(16);
    }
    assert(treeSteps < chainSteps, `${treeSteps} steps with trees, ${chainSteps} with chains`);
  }
});

Deno.test("ema: proposes all where passes are flat, and stops where every token costs a pass", async () => {
  const metrics = async (params: Record<string, unknown>) => {
    const { result } = await runToEnd(
      requestOf(speculative, { model: hashModel(never), draft: hashModel(never) }, {
        params: { gamma_schedule: "ema", ...params },
        maxTokens: 40,
      }),
    );
    return result.metrics;
  };
  const flat = await metrics({ verify_cost: 0, draft_cost: 0.01 });
  assertEquals(flat["target_steps"], 8);
  const dear = await metrics({ verify_cost: 1, draft_cost: 0.2 });
  assertEquals([dear["proposed"], dear["target_steps"]], [0, 40]);
  assertEquals(dear["speedup_estimate"], 1);
});

Deno.test("ema with a clock: dear drafts are switched off, cheap ones stay, the text is the same", async () => {
  const run = (perDraft: number, perPass: number) => {
    const model = hashModel({ window: 1, ...never });
    const draft = hashModel({ window: 1, ...never });
    return runToEnd({
      ...requestOf(speculative, { model, draft }, {
        params: { gamma_schedule: "ema" },
        maxTokens: 60,
      }),
      clock: () => draft.stats.steps * perDraft + model.stats.steps * perPass,
    });
  };
  const dear = await run(10, 1);
  const cheap = await run(1, 10);
  assertEquals(dear.choices, cheap.choices);
  assertEquals(dear.result.metrics["proposed"], 4); // the measured round alone
  assert(cheap.result.metrics["proposed"]! > 40);
  assert(cheap.result.metrics["speedup_estimate"]! > 2);
});
