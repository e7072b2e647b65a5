import { assertEquals } from "@std/assert";
import { greedySampling, seedFrom } from "../../../runtime/mod.ts";
import { fakeLogits } from "../../fakes/fake_executor.ts";
import { fakeEngine, letters, testScope } from "./_fixtures.ts";

const vocab = 24;

Deno.test("sharing: forks made before anything is computed compute the prompt once", async () => {
  await using setup = fakeEngine({ pages: 200 });
  const { engine } = setup;
  using root = engine.session(letters(30));
  const branches = Array.from({ length: 5 }, (_, i) => {
    const branch = root.fork();
    branch.append([i, 9]);
    return branch;
  });
  const rows = await Promise.all(branches.map((branch) => branch.logits()));
  rows.forEach(([row], i) => assertEquals(row, fakeLogits([...letters(30), i, 9], { vocab })));
  // 32 for the first branch, 2 for each of the others.
  assertEquals(engine.stats().tokens, 32 + 4 * 2);
});

Deno.test("sharing: asks at one position share a row", async () => {
  await using setup = fakeEngine();
  const { engine } = setup;
  const scope = testScope();
  using root = engine.session(letters(11), { scope });
  const branches = Array.from({ length: 6 }, () => root.fork());
  const sampling = { ...greedySampling, temperature: 1 };
  await Promise.all([
    ...branches.map((branch, i) => branch.sample({ sampling: { ...sampling, seed: seedFrom(i) } })),
    root.logits({ last: 4 }),
    root.entropy(),
  ]);
  const { steps, rows, tokens } = engine.stats();
  assertEquals({ steps, rows, tokens }, { steps: 1, rows: 1, tokens: 11 });
  assertEquals([scope.meter.rows, scope.meter.computedTokens], [1, 11]);
});

Deno.test("sharing: requests with one prompt compute it once, also in the same turn", async () => {
  await using setup = fakeEngine();
  const { engine } = setup;
  const scopes = [testScope(), testScope(), testScope({ salt: "another" })];
  const sessions = scopes.map((scope) => engine.session(letters(13), { scope }));
  const rows = await Promise.all(sessions.map((session) => session.logits()));
  for (const [row] of rows) assertEquals(row, fakeLogits(letters(13), { vocab }));
  assertEquals(engine.stats().rows, 2, "other salts share nothing");
  assertEquals(scopes.map(({ meter }) => meter.rows), [1, 1, 1]);
  assertEquals(scopes.map(({ meter }) => meter.computedTokens), [13, 0, 13]);
  for (const session of sessions) session[Symbol.dispose]();
});

Deno.test("sharing: one session's prompt is the beginning of another's", async () => {
  await using setup = fakeEngine({}, { limits: { chunkTokens: 8 } });
  const { engine } = setup;
  using short = engine.session(letters(20));
  using long = engine.session([...letters(20), 3, 1, 4]);
  const [a, b] = await Promise.all([short.logits(), long.logits()]);
  assertEquals(a, [fakeLogits(letters(20), { vocab })]);
  assertEquals(b, [fakeLogits([...letters(20), 3, 1, 4], { vocab })]);
  assertEquals(engine.stats().tokens, 23);
});

Deno.test("sharing: a later request finds the pages of an earlier one and is told so", async () => {
  await using setup = fakeEngine();
  const { engine } = setup;
  {
    using first = engine.session(letters(18), { scope: testScope() });
    await first.logits();
  }
  const scope = testScope();
  using second = engine.session(letters(18), { scope });
  assertEquals(await second.logits(), [fakeLogits(letters(18), { vocab })]);
  assertEquals(scope.meter.cachedTokens, 16); // four full pages of four
  assertEquals(scope.meter.computedTokens, 2);
  const other = testScope({ salt: "another" });
  using third = engine.session(letters(18), { scope: other });
  await third.logits();
  assertEquals([other.meter.cachedTokens, other.meter.computedTokens], [0, 18]);
});

Deno.test("sharing: the cache is asked also when a sibling has a little of the prefix", async () => {
  await using setup = fakeEngine();
  const { engine } = setup;
  {
    using first = engine.session(letters(18), { scope: testScope() });
    await first.logits();
  }
  const scope = testScope();
  using sibling = engine.session([...letters(3), 16, 16], { scope });
  await sibling.logits();
  using session = engine.session(letters(18), { scope });
  assertEquals(await session.logits(), [fakeLogits(letters(18), { vocab })]);
  assertEquals(scope.meter.computedTokens, 5 + 2);
});

Deno.test("sharing: a request does not find in the cache what it left there itself", async () => {
  await using setup = fakeEngine();
  const scope = testScope();
  for (let i = 0; i < 3; i++) {
    using session = setup.engine.session(letters(16), { scope });
    assertEquals(await session.logits(), [fakeLogits(letters(16), { vocab })]);
  }
  assertEquals(scope.meter.cachedTokens, 0);
  assertEquals(scope.meter.promptTokens, 16);
});

Deno.test("sharing: branches decoded one after the other compute the prompt once", async () => {
  await using setup = fakeEngine({ pages: 200 });
  const { engine } = setup;
  using root = engine.session(letters(31)); // never asked itself
  for (let i = 0; i < 4; i++) {
    using branch = root.fork();
    branch.append([i]);
    assertEquals(await branch.logits(), [fakeLogits([...letters(31), i], { vocab })]);
  }
  assertEquals(engine.stats().tokens, 31 + 4);
});

Deno.test("sharing: branches that draw the same tokens stay one row", async () => {
  await using setup = fakeEngine();
  const { engine } = setup;
  using root = engine.session(letters(6));
  await Promise.all([0, 1, 2].map(async () => {
    using branch = root.fork();
    for await (
      const _ of branch.generate({ sampling: greedySampling, maxTokens: 8, ignoreStop: true })
    );
  }));
  assertEquals(engine.stats().rows, 8);
});

Deno.test("sharing: a page two sessions hold is copied before one of them writes to it", async () => {
  let copies = 0;
  await using setup = fakeEngine({ onBatch: ({ edits }) => copies += edits.length });
  const { engine } = setup;
  using root = engine.session(letters(6)); // one page and a half
  await root.logits();
  const forks = [1, 2, 3].map((token) => {
    const fork = root.fork();
    fork.append([token]);
    return fork;
  });
  await Promise.all(forks.map((fork) => fork.logits()));
  assertEquals(copies, 3);
  assertEquals(engine.stats().tokens, 9);
  assertEquals(await root.logits(), [fakeLogits(letters(6), { vocab })]);
});

Deno.test("sharing: speculation shows in the cache only once it is committed", async () => {
  await using setup = fakeEngine();
  const { engine } = setup;
  using session = engine.session(letters(4), { rollback: 5 });
  session.append(letters(5, 1));
  await session.logits(); // 9 computed, 4 committed
  assertEquals(engine.stats().pages.cached, 1);
  session.truncate(4);
  session.append(letters(9, 2));
  await session.logits(); // 13 computed, 8 committed
  assertEquals(engine.stats().pages.cached, 2);
});
