/** Strategies over the paged engine: shared prefixes, copies on write, pages taken and given back. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { seedFrom } from "../../runtime/mod.ts";
import { listStrategies } from "../../strategies/mod.ts";
import { nextTurn, type Outcome, requestOf, runToEnd } from "../conformance/_strategy_run.ts";
import { fakeEngine } from "../runtime/engine/_fixtures.ts";

const single = listStrategies().filter(({ needs }) => Object.keys(needs).length === 1);

Deno.test("every strategy gives the same on an engine alone, in a crowd and short of pages", async () => {
  const overrides = (seed: number) => ({
    sampling: { seed: seedFrom(seed), presencePenalty: 0.3 },
    logprobs: 2,
    stop: ["ab", "ca"],
    maxTokens: 40,
  });
  const alone: Outcome[] = [];
  for (const [i, strategy] of single.entries()) {
    await using setup = fakeEngine({ pages: 400 });
    alone.push(await runToEnd(requestOf(strategy, setup.engine, overrides(i))));
    assertEquals(setup.engine.stats().openSessions, 0);
  }
  for (const pages of [600, 60]) {
    await using setup = fakeEngine({ pages });
    const crowd = await Promise.all(
      single.map((strategy, i) => runToEnd(requestOf(strategy, setup.engine, overrides(i)))),
    );
    crowd.forEach(({ choices, events }, i) => {
      assertEquals(choices, alone[i]!.choices, `${single[i]!.name} with ${pages} pages`);
      assertEquals(events.length, alone[i]!.events.length);
    });
    assertEquals(setup.engine.stats().openSessions, 0);
  }
});

Deno.test("every strategy leaves the engine as it was when aborted in the middle", async () => {
  for (const strategy of single) {
    await using setup = fakeEngine({ pages: 400 });
    const abort = new AbortController();
    const reason = new Error("client went away");
    const request = requestOf(strategy, setup.engine, { ignoreStop: true, signal: abort.signal });
    const ended = assertRejects(() => runToEnd(request), Error, "client went away");
    for (let i = 0; i < 4; i++) await nextTurn();
    assert(setup.engine.stats().openSessions > 0, strategy.name);
    abort.abort(reason);
    assertEquals(await ended, reason);
    await nextTurn();
    assertEquals(setup.engine.stats().openSessions, 0, strategy.name);
  }
});
