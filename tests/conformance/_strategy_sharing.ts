/** Laws about cost and company: steps, sessions, crowds, equivalences. */
import { assert, assertEquals } from "@std/assert";
import { seedFrom } from "../../runtime/mod.ts";
import { listStrategies, type Strategy, usedRoles } from "../../strategies/mod.ts";
import { choiceCounts } from "./_strategy_output.ts";
import { requestOf, runToEnd } from "./_strategy_run.ts";
import type { RegisterLaw, StrategyEquivalence, Subject } from "./strategy.ts";

export function sharingLaws(law: RegisterLaw): void {
  law("steps and sessions stay within what is declared", async (subject) => {
    const { strategy, params, models, steps } = subject;
    for (const choices of choiceCounts(subject)) {
      for (const maxTokens of [1, 2, 17]) {
        const all = models();
        const request = requestOf(strategy, all, { params, choices, maxTokens, ignoreStop: true });
        await runToEnd(request);
        const parsed = strategy.params.parse(params);
        const limit = strategy.sequences(parsed, choices);
        for (const { stats } of Object.values(all)) {
          const budget = steps({ tokens: maxTokens, params: parsed });
          assert(stats.steps <= budget, `${stats.steps} steps, declared ${budget}`);
          assert(stats.peakSessions <= limit, `${stats.peakSessions} sessions, declared ${limit}`);
        }
      }
    }
  });

  law("alone equals in a crowd, which shares steps", async (subject) => {
    const { strategy, params, models, maxChoices } = subject;
    const request = (all: ReturnType<typeof models>, seed: number) =>
      requestOf(strategy, all, {
        params,
        choices: maxChoices,
        logprobs: 1,
        sampling: { seed: seedFrom(seed) },
      });
    const lonely = models();
    const alone = [await runToEnd(request(lonely, 1)), await runToEnd(request(lonely, 2))];
    const crowded = models();
    const [primary] = Object.keys(strategy.needs);
    const others = listStrategies()
      .filter((other) => Object.keys(other.needs).length === 1)
      .map((other) => runToEnd(requestOf(other, crowded[primary!]!)));
    const inCrowd = await Promise.all([
      runToEnd(request(crowded, 1)),
      runToEnd(request(crowded, 2)),
    ]);
    await Promise.all(others);
    assertEquals(inCrowd, alone);
    const { steps, asks } = crowded[primary!]!.stats;
    assert(steps < asks / 2, `${asks} asks took ${steps} steps`);
  });

  law("usage adds up", async (subject) => {
    const { strategy, params, models } = subject;
    const all = models();
    const { result } = await runToEnd(requestOf(strategy, all, { params, trace: "steps" }));
    const { usage, meters, metrics } = result;
    const primary = meters[Object.keys(strategy.needs)[0]!]!;
    const roles = usedRoles(strategy, strategy.params.parse(params));
    assertEquals(Object.keys(meters), Object.keys(roles));
    assertEquals(usage.promptTokens, 8); // <s> <user> a b b a <end> <assistant>
    assertEquals(usage.promptTokens, primary.promptTokens);
    const drawn = Object.values(meters).reduce((sum, meter) => sum + meter.drawnTokens, 0);
    assertEquals(usage.drawnTokens, drawn);
    assert(primary.rows >= 1 && primary.computedTokens >= primary.promptTokens);
    assert(Object.values(metrics).every(Number.isFinite));
    for (const numbers of result.choices) assert(Object.values(numbers).every(Number.isFinite));
  });

  law("nothing is traced unless steps are asked for", async ({ strategy, params, models }) => {
    const quiet = await runToEnd(requestOf(strategy, models(), { params, trace: "summary" }));
    assertEquals(quiet.result.steps, []);
  });
}

/** Registers a declared equivalence as a law. */
export function testEquivalence(
  strategy: Strategy,
  models: Subject["models"],
  { params, sampling = {}, as, asParams = {} }: StrategyEquivalence,
): void {
  const settings = JSON.stringify({ ...params, ...sampling });
  Deno.test(`${strategy.name} ${settings}: equals ${as.name} ${JSON.stringify(asParams)}`, async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const overrides = {
        sampling: { seed: seedFrom(seed), ...sampling },
        prompt: [seed % 17, 3],
        logprobs: 2,
        stop: ["ab", "ca"],
      };
      const one = await runToEnd(requestOf(strategy, models(), { ...overrides, params }));
      const other = await runToEnd(requestOf(as, models(), { ...overrides, params: asParams }));
      assertEquals(one.choices, other.choices);
    }
  });
}
