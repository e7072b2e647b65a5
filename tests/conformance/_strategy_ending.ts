/** Laws about ends: stop strings, limits, break, abort, failure. Nothing stays open. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { EngineError, seedFrom } from "../../runtime/mod.ts";
import { runStrategy } from "../../strategies/mod.ts";
import { hashModel } from "../fakes/mod.ts";
import { nextTurn, requestOf, runToEnd } from "./_strategy_run.ts";
import type { RegisterLaw, Subject } from "./strategy.ts";

function openSessions(models: ReturnType<Subject["models"]>): number {
  return Object.values(models).reduce((sum, { stats }) => sum + stats.openSessions, 0);
}

export function endingLaws(law: RegisterLaw): void {
  law("no text has a stop string, and stopping says by what", async (subject) => {
    const { strategy, params, models, maxChoices } = subject;
    const stop = ["ab", "c", "po", " n"];
    let stopped = 0;
    for (let seed = 1; seed <= 12; seed++) {
      const all = models();
      const { choices } = await runToEnd(requestOf(strategy, all, {
        params,
        stop,
        choices: maxChoices,
        sampling: { seed: seedFrom(seed) },
        prompt: [seed % 10],
      }));
      for (const { text, reason, stoppedBy } of choices) {
        assert(!stop.some((part) => text.includes(part)), text);
        if (typeof stoppedBy !== "string") continue;
        stopped++;
        assertEquals(reason, "stop");
        assert(stop.includes(stoppedBy));
      }
      assertEquals(openSessions(all), 0);
    }
    assert(stopped > 0, "no run met a stop string");
  });

  law("a stop token of the request ends a choice and is not text", async (subject) => {
    const { strategy, params, models, maxChoices } = subject;
    const stopTokens = [0, 3, 4];
    const { choices } = await runToEnd(requestOf(strategy, models(), {
      params,
      stopTokens,
      ignoreStop: true, // the model's own, not the request's
      choices: maxChoices,
      maxTokens: 60,
    }));
    for (const { tokens } of choices) {
      assert(!tokens.some((token) => stopTokens.includes(token)));
    }
    assert(choices.some(({ stoppedBy }) => stopTokens.includes(Number(stoppedBy))));
  });

  law("a finished run leaves no session and no ask", async (subject) => {
    const all = subject.models();
    await runToEnd(requestOf(subject.strategy, all, { params: subject.params }));
    assertClean(all);
  });

  law("breaking out leaves no session and no ask", async (subject) => {
    const { strategy, params, models, maxChoices } = subject;
    for (const after of [1, 2, 5]) {
      const all = models();
      let seen = 0;
      const request = requestOf(strategy, all, { params, choices: maxChoices, ignoreStop: true });
      for await (const _ of runStrategy(request)) if (++seen === after) break;
      await nextTurn();
      assertClean(all);
    }
  });

  law("a consumer that throws leaves no session and no ask", async (subject) => {
    const all = subject.models();
    const request = requestOf(subject.strategy, all, { params: subject.params, ignoreStop: true });
    await assertRejects(
      async () => {
        for await (const _ of runStrategy(request)) throw new TypeError("consumer failed");
      },
      TypeError,
      "consumer failed",
    );
    assertClean(all);
  });

  law("an abort in the middle rejects with its reason and leaves nothing", async (subject) => {
    const { strategy, params, models, maxChoices } = subject;
    for (const turns of [0, 1, 2, 3, 6]) {
      const all = models();
      const abort = new AbortController();
      const reason = new Error("client went away");
      const ended = assertRejects(
        () =>
          runToEnd(requestOf(strategy, all, {
            params,
            choices: maxChoices,
            ignoreStop: true,
            signal: abort.signal,
          })),
        Error,
        "client went away",
      );
      for (let i = 0; i < turns; i++) await nextTurn();
      abort.abort(reason);
      assertEquals(await ended, reason);
      assertClean(all);
    }
  });

  law("an abort does not wait for the model", async ({ strategy, params, models }) => {
    const all = models();
    const abort = new AbortController();
    const run = runStrategy(requestOf(strategy, all, { params, signal: abort.signal }));
    for (const model of Object.values(all)) model.pause();
    const pending = assertRejects(() => run.next(), Error, "gone");
    await nextTurn();
    assert(openSessions(all) > 0, "the run has not begun");
    abort.abort(new Error("gone"));
    await pending;
    assertClean(all);
  });

  law("an aborted request does not begin", async ({ strategy, params, models }) => {
    const all = models();
    const signal = AbortSignal.abort(new Error("gone"));
    const run = runStrategy(requestOf(strategy, all, { params, signal }));
    await assertRejects(() => run.next(), Error, "gone");
    for (const { stats } of Object.values(all)) assertEquals(stats.steps, 0);
    assertClean(all);
  });

  law("a failing step rejects and leaves nothing", async ({ strategy, params }) => {
    for (const failAtStep of [1, 2, 3]) {
      const model = hashModel({ failAtStep, stopBias: -Infinity });
      await assertRejects(
        () => runToEnd(requestOf(strategy, model, { params })),
        EngineError,
        "told to fail",
      );
      await nextTurn();
      assertClean({ model });
    }
  });

  law("a run that is never started opens nothing", async ({ strategy, params, models }) => {
    const all = models();
    await runStrategy(requestOf(strategy, all, { params })).return({} as never);
    assertEquals(openSessions(all), 0);
  });
}

function assertClean(models: ReturnType<Subject["models"]>): void {
  for (const { stats } of Object.values(models)) {
    assertEquals([stats.openSessions, stats.pendingAsks], [0, 0]);
  }
}
