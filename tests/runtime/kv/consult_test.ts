import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { leastKvSupport } from "../../../runtime/backend/backend.ts";
import type { EngineLimits } from "../../../runtime/engine/engine.ts";
import type { KvEdit, KvPolicy, KvView } from "../../../runtime/kv/policy.ts";
import { EngineError, OutOfPagesError } from "../../../runtime/mod.ts";
import { PolicyError } from "../../../runtime/errors.ts";
import type { FakeExecutorOptions } from "../../fakes/fake_executor.ts";
import { windowPolicy } from "../../fakes/window_policy.ts";
import { fakeEngine, letters, testScope } from "../engine/_fixtures.ts";

/** A policy that does what `edit` says and remembers what it was shown. */
function spyPolicy(edit: (view: KvView) => readonly KvEdit[], lossless = false) {
  const seen: { committed: number; positions: number[]; tokens: number[] }[] = [];
  const policy: KvPolicy = {
    name: "spy",
    source: "test",
    lossless,
    granularity: "sequence",
    signals: [],
    params: { parse: (value) => value },
    init: () => 0,
    fork: (state) => state,
    plan(state, view) {
      const { positions } = view.groups[0]!;
      seen.push({
        committed: view.committed,
        positions: [...positions],
        tokens: [...view.tokens],
      });
      return { state, edits: edit(view) };
    },
  };
  return { policy, seen };
}

function engineWith(
  policy: KvPolicy,
  executor: Partial<FakeExecutorOptions> = {},
  limits: EngineLimits = {},
) {
  return fakeEngine(executor, { findPolicy: () => policy, limits });
}

const kvScope = () => testScope({ kv: { name: "spy", params: {} } });

for (const lossless of [false, true]) {
  for (const limits of [{}, { stepTokens: 3, chunkTokens: 2 }]) {
    const name = `${lossless ? "lossless" : "evicting"}, ${JSON.stringify(limits)}`;
    Deno.test(`policies are consulted at page boundaries and the prompt's end: ${name}`, async () => {
      const { policy, seen } = spyPolicy(() => [], lossless);
      await using setup = engineWith(policy, {}, limits);
      using session = setup.engine.session(letters(10), { rollback: 3, scope: kvScope() });
      await session.logits(); // 7 committed
      assertEquals(seen.map(({ committed }) => committed), [4]);
      session.append(letters(2, 5));
      await session.logits();
      session.append(letters(1, 6));
      await session.logits(); // 13 computed, 10 committed
      assertEquals(seen.map(({ committed }) => committed), [4, 8, 10]);
      session.append(letters(12, 7));
      await session.logits(); // 25 computed, 22 committed
      assertEquals(seen.map(({ committed }) => committed), [4, 8, 10, 12, 16, 20]);
      for (const { committed, tokens } of seen) {
        assertEquals(tokens, session.tokens.slice(0, committed));
      }
      if (!lossless) { // at that point exactly, however the work was cut
        assertEquals(seen.map(({ positions }) => positions.length), [7, 11, 13, 15, 19, 23]);
      }
    });
  }
}

Deno.test("policies are not consulted again about what was rolled back", async () => {
  const { policy, seen } = spyPolicy(() => []);
  await using setup = engineWith(policy);
  using session = setup.engine.session(letters(2), { rollback: 6, scope: kvScope() });
  for (let i = 0; i < 3; i++) { // 10, 12 and 14 tokens computed
    session.append(letters(8, i));
    await session.logits();
    session.truncate(session.committed);
  }
  assertEquals(seen.map(({ committed }) => committed), [2, 4, 8]);
});

Deno.test("keep drops slots: positions and slots differ from then on", async () => {
  const { policy, seen } = spyPolicy(({ committed, groups }) => {
    if (committed !== 8) return [];
    const { positions } = groups[0]!;
    const slots = [...positions.keys()].filter((slot) => positions[slot] !== 1);
    return [{ op: "keep", group: 0, slots: Uint32Array.from(slots) }];
  });
  await using setup = engineWith(policy, { deep: false });
  using session = setup.engine.session(letters(12), { scope: kvScope() });
  await session.logits();
  assertEquals(seen.at(-1)!.positions, [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
});

Deno.test("keep leaves whole pages where they are and gathers the rest into fresh ones", async () => {
  const copied: number[] = [];
  const { policy } = spyPolicy(({ committed, groups }) => {
    if (committed !== 12) return [];
    const { positions } = groups[0]!;
    // The second page goes entirely, so that nothing has to move.
    const slots = [...positions.keys()].filter((slot) => slot < 4 || slot >= 8);
    return [{ op: "keep", group: 0, slots: Uint32Array.from(slots) }];
  });
  await using setup = engineWith(policy, {
    onBatch: ({ edits }) => copied.push(...edits.map(({ from }) => from.length)),
  });
  using session = setup.engine.session(letters(12), { scope: kvScope() });
  await session.logits();
  const { free, total } = setup.engine.stats().pages;
  assertEquals([total - free, copied], [2, []]);
});

Deno.test("eviction in one fork changes nothing in another", async () => {
  await using setup = engineWith(windowPolicy, { deep: false });
  const { engine } = setup;
  using session = engine.session(letters(7), { scope: kvScope() });
  await session.logits();
  using fork = session.fork();
  const before = await session.logits();
  fork.append(letters(30, 3));
  await fork.logits();
  assertEquals(await session.logits(), before);
});

const badEdits: readonly [string, (view: KvView) => KvEdit, string][] = [
  [
    "drops tentative tokens",
    ({ groups }) => ({ op: "keep", group: 0, slots: groups[0]!.positions.slice(0, 4) }),
    "not yet committed",
  ],
  [
    "keeps slots out of order",
    () => ({ op: "keep", group: 0, slots: Uint32Array.of(1, 0) }),
    "ascending",
  ],
  [
    "keeps slots that do not exist",
    () => ({ op: "keep", group: 0, slots: Uint32Array.of(0, 99) }),
    "valid",
  ],
  ["names another group", () => ({ op: "keep", group: 1, slots: Uint32Array.of(0) }), "group 1"],
  [
    "encodes tentative tokens",
    ({ groups }) => ({
      op: "encode",
      group: 0,
      slots: groups[0]!.positions.length,
      format: "int8",
    }),
    "encoded tokens not yet committed",
  ],
  [
    "reads slots that do not exist",
    () => ({ op: "read", group: 0, slots: Uint32Array.of(99) }),
    "valid",
  ],
  [
    "reads a signal it did not declare",
    ({ groups }) => {
      groups[0]!.signal("attention-sum");
      return { op: "keep", group: 0, slots: Uint32Array.of(0) };
    },
    "attention-sum",
  ],
];
for (const [name, edit, message] of badEdits) {
  Deno.test(`a policy that ${name} fails its own session alone`, async () => {
    const { policy } = spyPolicy((view) => [edit(view)]);
    const innocent = spyPolicy(() => []).policy;
    await using setup = fakeEngine({}, {
      findPolicy: (name) => name === "spy" ? policy : innocent,
    });
    const { engine } = setup;
    using session = engine.session(letters(9), { rollback: 2, scope: kvScope() });
    using other = engine.session(letters(9, 4));
    const asks = await Promise.allSettled([session.logits(), other.logits()]);
    assertEquals(asks.map(({ status }) => status), ["rejected", "fulfilled"]);
    await assertRejects(() => session.logits(), Error, message);
    engine.checkPages();
  });
}

Deno.test("a policy that calls itself lossless must not change the cache", async () => {
  const { policy } = spyPolicy(
    () => [{ op: "keep", group: 0, slots: Uint32Array.of(0) }],
    true,
  );
  await using setup = engineWith(policy);
  using session = setup.engine.session(letters(9), { scope: kvScope() });
  await assertRejects(() => session.logits(), EngineError, "lossless");
});

Deno.test("evicted pages are really free: a prompt larger than the pool goes through", async () => {
  const pool = { pages: 6, pageSize: 4 }; // 24 slots
  await using setup = fakeEngine(pool, {
    findPolicy: (name) => name === "full" ? spyPolicy(() => [], true).policy : windowPolicy,
  });
  const { engine } = setup;
  using whole = engine.session(letters(100));
  await assertRejects(() => whole.logits(), OutOfPagesError);
  using windowed = engine.session(letters(100), {
    scope: testScope({ kv: { name: "test-window", params: { sinks: 2, recent: 6 } } }),
  });
  assertEquals((await windowed.logits()).length, 1);
  // The last eviction's copies go with a batch of their own.
  await new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)));
  assertEquals(engine.stats().pages.free, 4); // two pages hold the eight tokens kept
});

Deno.test("a prompt whose kept part never fits fails and leaves the pool usable", async () => {
  await using setup = fakeEngine({ pages: 6, pageSize: 4 }, { findPolicy: () => windowPolicy });
  const { engine } = setup;
  using session = engine.session(letters(100), {
    scope: testScope({ kv: { name: "test-window", params: { sinks: 2, recent: 60 } } }),
  });
  await assertRejects(() => session.logits(), OutOfPagesError);
  using small = engine.session(letters(8));
  assertEquals((await small.logits()).length, 1);
});

Deno.test("policies this engine cannot serve are refused when a session is opened", async () => {
  const { policy } = spyPolicy(() => []);
  const refused: readonly [Partial<KvPolicy>, string][] = [
    [{ granularity: "layer" }, "per layer"],
    [{ signals: ["attention-sum"] }, "attention-sum"],
  ];
  for (const [change, message] of refused) {
    await using setup = engineWith({ ...policy, ...change }, { support: leastKvSupport });
    assertThrows(() => setup.engine.session([1], { scope: kvScope() }), PolicyError, message);
    assertEquals(setup.engine.stats().openSessions, 0);
  }
});
