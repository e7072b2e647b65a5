import { assert, assertEquals, assertRejects } from "@std/assert";
import { greedySampling, OutOfPagesError } from "../../../runtime/mod.ts";
import { fakeLogits } from "../../fakes/fake_executor.ts";
import { windowPolicy } from "../../fakes/window_policy.ts";
import { fakeEngine, letters, testScope } from "./_fixtures.ts";

const vocab = 24;

Deno.test("a sequence that can never fit fails with OutOfPagesError, at once", async () => {
  await using setup = fakeEngine({ pages: 5 });
  const { engine } = setup;
  using long = engine.session(letters(21));
  const error = await assertRejects(() => long.logits(), OutOfPagesError);
  assertEquals([error.needed, error.total], [6, 5]);
  assertEquals(engine.stats().steps, 0);
  using fits = engine.session(letters(20));
  assertEquals(await fits.logits(), [fakeLogits(letters(20), { vocab })]);
  assertEquals(await fits.logits(), [fakeLogits(letters(20), { vocab })]);
  await assertRejects(() => fits.tree({ tokens: [1], parents: [-1] }), OutOfPagesError);
});

Deno.test("waiting sessions lose their pages and compute them again", async () => {
  await using setup = fakeEngine({ pages: 6 });
  const { engine } = setup;
  const sessions = [0, 1, 2, 3].map((seed) => engine.session(letters(14, seed)));
  for (let round = 0; round < 3; round++) {
    for (const [seed, session] of sessions.entries()) {
      assertEquals(await session.logits(), [fakeLogits(letters(14, seed), { vocab })]);
    }
  }
  assert(engine.stats().preemptions > 0);
  for (const session of sessions) session[Symbol.dispose]();
});

Deno.test("sequences that do not fit together all come to their end", async () => {
  await using setup = fakeEngine({ pages: 7 }, { limits: { stepTokens: 12, chunkTokens: 6 } });
  const { engine } = setup;
  const alone: number[][] = [];
  for (let seed = 0; seed < 6; seed++) {
    await using lonely = fakeEngine();
    using session = lonely.engine.session(letters(9, seed));
    for await (
      const _ of session.generate({ sampling: greedySampling, maxTokens: 12, ignoreStop: true })
    );
    alone.push([...session.tokens]);
  }
  const together = await Promise.all(alone.map(async (_, seed) => {
    using session = engine.session(letters(9, seed));
    for await (
      const _ of session.generate({ sampling: greedySampling, maxTokens: 12, ignoreStop: true })
    );
    return [...session.tokens];
  }));
  assertEquals(together, alone);
  assert(engine.stats().preemptions > 0);
});

Deno.test("cached pages go before anyone is preempted", async () => {
  await using setup = fakeEngine({ pages: 12 });
  const { engine } = setup;
  using kept = engine.session(letters(15, 1));
  await kept.logits();
  for (let seed = 2; seed < 8; seed++) {
    using passing = engine.session(letters(16, seed));
    await passing.logits();
  }
  const { preemptions, pages } = engine.stats();
  assertEquals(preemptions, 0);
  assert(pages.cached > 0);
});

Deno.test("many branches of one request do not hold up another", async () => {
  await using setup = fakeEngine({ pages: 400 }, { limits: { stepTokens: 8 } });
  const { engine } = setup;
  using other = engine.session(letters(3, 9));
  await other.logits();
  using root = engine.session(letters(4));
  await root.logits();
  const branches = Array.from({ length: 40 }, (_, i) => {
    const branch = root.fork();
    branch.append([i % 17, i >> 4]);
    return branch;
  });
  const all = Promise.all(branches.map((branch) => branch.logits()));
  const before = engine.stats().steps;
  other.append([1]);
  await other.logits();
  assertEquals(engine.stats().steps - before, 1);
  await all;
  for (const branch of branches) branch[Symbol.dispose]();
});

Deno.test("preemption does not show under an evicting policy, whatever was truncated before", async () => {
  const decode = async (pages: number) => {
    await using setup = fakeEngine({ pages }, { findPolicy: () => windowPolicy });
    const { engine } = setup;
    const rows: Float32Array[] = [];
    const scope = () => testScope({ kv: { name: "test-window", params: { sinks: 1, recent: 5 } } });
    const sessions = [0, 1, 2, 3].map((seed) =>
      engine.session(letters(11, seed), { rollback: 2 * seed, scope: scope() })
    );
    for (let round = 0; round < 12; round++) {
      for (const [seed, session] of sessions.entries()) {
        session.append(letters(3, round + seed));
        rows.push(...await session.logits({ last: 1 + round % 2 }));
        session.truncate(Math.max(session.committed, session.length - round % 5));
      }
    }
    for (const session of sessions) session[Symbol.dispose]();
    return { rows, preemptions: engine.stats().preemptions };
  };
  const [roomy, tight] = [await decode(200), await decode(12)];
  assertEquals(tight.rows, roomy.rows);
  assertEquals(roomy.preemptions, 0);
  assert(tight.preemptions > 10);
});
