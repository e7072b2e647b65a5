/** Laws of lifetimes: generating, cancelling, closing, limits, meters. */
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  ClosedError,
  ContextLengthError,
  createMeter,
  greedySampling,
  type RequestScope,
  type Sampled,
  type SamplingParams,
  seedFrom,
} from "../../runtime/mod.ts";
import type { DefineLaw } from "./language_model.ts";

const warm: SamplingParams = { ...greedySampling, temperature: 1, seed: seedFrom(11) };

function scopeOf(signal: AbortSignal, id = "request"): RequestScope {
  return { id, signal, meter: createMeter(), cacheSalt: "" };
}

export function lifetimeLaws(law: DefineLaw): void {
  law("what was consumed is what the session holds", async (context) => {
    const prompt = context.tokens(8);
    const options = { sampling: warm, maxTokens: 12, ignoreStop: true };
    using whole = context.open(prompt);
    const all: Sampled[] = [];
    for await (const sampled of whole.generate(options)) all.push(sampled);
    assertEquals(whole.tokens, [...prompt, ...all.map(({ token }) => token)]);
    assertEquals(all.length, 12);

    using session = context.open(prompt);
    const some: Sampled[] = [];
    for await (const sampled of session.generate(options)) {
      some.push(sampled);
      if (some.length === 5) break;
    }
    assertEquals(session.tokens, [...prompt, ...some.map(({ token }) => token)]);
    for await (const sampled of session.generate({ ...options, maxTokens: 7 })) some.push(sampled);
    assertEquals(some, all);
  });

  law("generate ends after a stop token, which it yields and appends", async (context) => {
    const [stop] = context.model.vocab!.stopTokens;
    using session = context.open(context.tokens(4));
    const sampling = { ...greedySampling, logitBias: [[stop!, 100]] as const };
    const drawn: number[] = [];
    for await (const { token } of session.generate({ sampling, maxTokens: 9 })) drawn.push(token);
    assertEquals(drawn, [stop!]);
    assertEquals(session.length, 5);
    const on = session.generate({ sampling, maxTokens: 3, ignoreStop: true });
    for await (const { token } of on) drawn.push(token);
    assertEquals(drawn, [stop!, stop!, stop!, stop!]);
  });

  law(
    "cancelling rejects pending asks with the reason and leaves nothing open",
    async (context) => {
      const { model, openSessions } = context;
      const before = openSessions?.();
      using bystander = context.open(context.tokens(6));
      const controller = new AbortController();
      const scope = scopeOf(controller.signal);
      const sessions = [3, 30, 5].map((count) => model.session(context.tokens(count), { scope }));
      sessions.push(sessions[0]!.fork());
      const asks = sessions.map((session) => session.logits());
      const kept = bystander.logits();
      const reason = new Error("the client went away");
      controller.abort(reason);
      for (const ask of asks) assertEquals(await ask.catch((error) => error), reason);
      assertEquals(await sessions[0]!.logits().catch((error) => error), reason);
      assertEquals((await kept).length, 1);
      bystander[Symbol.dispose]();
      for (const session of sessions) session[Symbol.dispose](); // as `using` does; harmless
      if (openSessions) assertEquals(openSessions(), before);
    },
  );

  law("a generate that is cancelled throws the reason", async (context) => {
    const controller = new AbortController();
    using session = context.model.session(context.tokens(3), {
      scope: scopeOf(controller.signal),
    });
    const reason = new Error("enough");
    let count = 0;
    const error = await assertRejects(async () => {
      for await (const _ of session.generate({ sampling: warm, maxTokens: 20, ignoreStop: true })) {
        if (++count === 3) controller.abort(reason);
      }
    });
    assertEquals(error, reason);
    assertEquals(count, 3);
  });

  law("a closed session throws ClosedError and rejects its pending asks", async (context) => {
    const session = context.open(context.tokens(7));
    const fork = session.fork();
    const pending = session.logits();
    session[Symbol.dispose]();
    session[Symbol.dispose]();
    await assertRejects(() => pending, ClosedError);
    await assertRejects(() => session.topk(1), ClosedError);
    assertThrows(() => session.append([0]), ClosedError);
    assertThrows(() => session.truncate(7), ClosedError);
    assertThrows(() => session.fork(), ClosedError);
    assertEquals((await fork.logits()).length, 1);
    fork[Symbol.dispose]();
  });

  law("the context length is kept", (context) => {
    const { model } = context;
    assertThrows(() => context.open(context.tokens(model.contextLength + 1)), ContextLengthError);
    using session = context.open(context.tokens(5));
    assertThrows(() => session.append(context.tokens(model.contextLength - 4)), ContextLengthError);
    assertEquals(session.length, 5);
    session.append(context.tokens(model.contextLength - 5));
    assertEquals(session.length, model.contextLength);
    assertThrows(() => session.append(context.tokens(1)), ContextLengthError);
  });

  law("what does not exist is refused", async (context) => {
    using session = context.open(context.tokens(5));
    const { size } = context.model.vocab!;
    for (const token of [size, -1, 0.5, NaN]) {
      assertThrows(() => session.append([token]), RangeError);
    }
    assertEquals(session.length, 5);
    for (const last of [0, 6, 1.5]) {
      await assertRejects(() => session.logits({ last }), RangeError);
    }
    await assertRejects(() => session.score({ last: 5 }), RangeError, "before the first token");
  });

  law("an empty session can be extended, not asked", async (context) => {
    using session = context.open([]);
    assertEquals(session.length, 0);
    await assertRejects(() => session.logits(), RangeError);
    await assertRejects(() => session.sample({ sampling: warm }), RangeError);
    const [token] = context.tokens(1); // a tree brings its own beginning
    const rows = await session.tree({ tokens: [token!], parents: [-1] });
    assertEquals(rows, [await context.fresh([token!])]);
    const tokens = context.tokens(3);
    session.append(tokens);
    assertEquals(await session.logits(), [await context.fresh(tokens)]);
  });

  law("meters count the prompt once and what is appended", async (context) => {
    const scope = scopeOf(new AbortController().signal);
    const prompt = context.tokens(9);
    using session = context.model.session(prompt, { scope });
    using fork = session.fork();
    using second = context.model.session(prompt, { scope });
    assertEquals(scope.meter.promptTokens, 9);
    fork.append(context.tokens(2));
    for await (const _ of second.generate({ sampling: warm, maxTokens: 3, ignoreStop: true }));
    await fork.logits();
    assertEquals(scope.meter.promptTokens, 9);
    assertEquals(scope.meter.drawnTokens, 5);
    assertEquals(scope.meter.rows > 0 && scope.meter.computedTokens >= 9, true);
  });
}
