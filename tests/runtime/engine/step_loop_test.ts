import { assert, assertEquals, assertRejects } from "@std/assert";
import type { Batch } from "../../../runtime/engine/executor.ts";
import { ClosedError, EngineError, greedySampling } from "../../../runtime/mod.ts";
import { fakeLogits } from "../../fakes/fake_executor.ts";
import { fakeEngine, letters, testScope } from "./_fixtures.ts";

const vocab = 24;

Deno.test("step loop: promise chains a thousand awaits deep join the same step", async () => {
  await using setup = fakeEngine();
  const { engine } = setup;
  using shallow = engine.session(letters(3, 1));
  using deep = engine.session(letters(3, 2));
  const climb = async (depth: number): Promise<void> => {
    if (depth > 0) await climb(depth - 1);
  };
  const shallowSteps = async () => {
    for (let i = 0; i < 5; i++) shallow.append([(await shallow.topk(1))[0]!.candidates[0]!.token]);
  };
  const deepSteps = async () => {
    for (let i = 0; i < 5; i++) {
      await climb(1000);
      deep.append([(await deep.topk(1))[0]!.candidates[0]!.token]);
    }
  };
  await Promise.all([shallowSteps(), deepSteps()]);
  assertEquals([engine.stats().steps, engine.stats().rows], [5, 10]);
});

Deno.test("step loop: an idle engine runs no steps", async () => {
  await using setup = fakeEngine();
  using session = setup.engine.session(letters(3));
  session.append(letters(3));
  session.fork()[Symbol.dispose]();
  await new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)));
  assertEquals(setup.engine.stats().steps, 0);
});

Deno.test("step loop: an error fails the asks of that batch and no others", async () => {
  await using setup = fakeEngine({ failAtStep: 2 });
  const { engine } = setup;
  using first = engine.session(letters(6, 1));
  await first.logits();
  using second = engine.session(letters(9, 2));
  first.append([4]);
  const failing = [first.logits(), second.topk(2)];
  for (const ask of failing) await assertRejects(() => ask, EngineError, "told to");
  // The sessions are still their tokens.
  assertEquals(await first.logits(), [fakeLogits([...letters(6, 1), 4], { vocab })]);
  assertEquals(await second.logits(), [fakeLogits(letters(9, 2), { vocab })]);
  assertEquals(engine.stats().waitingAsks, 0);
});

Deno.test("step loop: asks left out of a failing batch are answered later", async () => {
  await using setup = fakeEngine({ failAtStep: 1 }, { limits: { stepTokens: 4 } });
  using one = setup.engine.session(letters(4, 1));
  using two = setup.engine.session([9, ...letters(7, 2)]);
  const [failed, kept] = [one.logits(), two.logits()];
  await assertRejects(() => failed, EngineError);
  assertEquals(await kept, [fakeLogits([9, ...letters(7, 2)], { vocab })]);
});

Deno.test("step loop: an ask that cannot be answered fails alone", async () => {
  await using setup = fakeEngine();
  using session = setup.engine.session(letters(5));
  const [refused, kept] = [
    session.sample({ sampling: { ...greedySampling, logitBias: [[999, 1]] } }),
    session.logits(),
  ];
  await assertRejects(() => refused, RangeError, "999");
  assertEquals((await kept).length, 1);
});

Deno.test("step loop: cancelling during a step rejects at once and frees the pages after it", async () => {
  const gate = Promise.withResolvers<void>();
  let isHeld = true;
  await using setup = fakeEngine({ gate: () => isHeld ? gate.promise : undefined });
  const { engine } = setup;
  const controller = new AbortController();
  const scope = testScope({ signal: controller.signal });
  const session = engine.session(letters(10), { scope });
  using other = engine.session(letters(10)); // shares the row
  const [asked, kept] = [session.logits(), other.logits()];
  await new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)));
  assertEquals(engine.stats().steps, 1); // in flight
  controller.abort(new Error("gone"));
  await assertRejects(() => asked, Error, "gone");
  assertEquals(engine.stats().openSessions, 1);
  isHeld = false;
  gate.resolve();
  assertEquals(await kept, [fakeLogits(letters(10), { vocab })]);
  engine.checkPages();
  other[Symbol.dispose]();
  const { pages } = engine.stats();
  assertEquals(pages.free + pages.cached, pages.total);
});

Deno.test("step loop: cancelling takes queued work out of the next step", async () => {
  const batches: Batch[] = [];
  await using setup = fakeEngine({ onBatch: (batch) => batches.push(batch) });
  const controller = new AbortController();
  const scope = testScope({ signal: controller.signal });
  const session = setup.engine.session(letters(30), { scope });
  using other = setup.engine.session(letters(4, 3));
  const asks = Promise.allSettled([session.logits(), other.logits()]);
  controller.abort("gone");
  assertEquals((await asks).map(({ status }) => status), ["rejected", "fulfilled"]);
  assertEquals(batches.map(({ rows }) => rows.length), [1]);
});

Deno.test("step loop: forks and truncations during a step see what was there before it", async () => {
  const gate = Promise.withResolvers<void>();
  await using setup = fakeEngine({ gate: () => gate.promise });
  const { engine } = setup;
  using session = engine.session(letters(10), { rollback: 6 });
  const asked = session.logits();
  await new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)));
  using fork = session.fork();
  fork.append([1]);
  session.truncate(7);
  session.append([2]);
  gate.resolve();
  assertEquals(await asked, [fakeLogits(letters(10), { vocab })]);
  assertEquals(await Promise.all([fork.logits(), session.logits()]), [
    [fakeLogits([...letters(10), 1], { vocab })],
    [fakeLogits([...letters(7), 2], { vocab })],
  ]);
});

Deno.test("engine: closing it rejects what waits, closes sessions and the executor", async () => {
  const setup = fakeEngine();
  const { engine, executor } = setup;
  const session = engine.session(letters(10));
  const asked = session.logits();
  const closing = engine[Symbol.asyncDispose]();
  await assertRejects(() => asked, ClosedError, "engine");
  await closing;
  assert(executor.isClosed());
  const { openSessions, pages } = engine.stats();
  assertEquals([openSessions, pages.free], [0, pages.total]);
  await assertRejects(() => session.logits(), ClosedError);
  await assertRejects(() => Promise.resolve().then(() => engine.session([1])), ClosedError);
  await engine[Symbol.asyncDispose]();
});

Deno.test("engine: closing it during a step waits for the step", async () => {
  const gate = Promise.withResolvers<void>();
  const { engine, executor } = fakeEngine({ gate: () => gate.promise });
  const asked = engine.session(letters(10)).logits();
  await new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)));
  const closing = engine[Symbol.asyncDispose]();
  await assertRejects(() => asked, ClosedError);
  assertEquals(executor.isClosed(), false);
  gate.resolve();
  await closing;
  assertEquals(executor.isClosed(), true);
  engine.checkPages();
});

Deno.test("engine: a thousand sessions opened and aborted leave nothing behind", async () => {
  await using setup = fakeEngine({ pages: 40 });
  const { engine } = setup;
  for (let i = 0; i < 1000; i++) {
    const controller = new AbortController();
    const session = engine.session(letters(5 + i % 9, i), {
      scope: testScope({ signal: controller.signal }),
    });
    const asked = session.logits();
    if (i % 3 === 0) await asked;
    controller.abort("gone");
    assertEquals(
      await asked.then(() => "answered", (reason) => reason),
      i % 3 === 0 ? "answered" : "gone",
    );
  }
  const { openSessions, waitingAsks, pages } = engine.stats();
  assertEquals([openSessions, waitingAsks, pages.free + pages.cached], [0, 0, 40]);
});
