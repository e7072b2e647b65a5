import { assertEquals, assertRejects } from "@std/assert";
import { mergeRuns, type Run } from "../../routes/merge_runs.ts";
import type { RunEvent, RunResult } from "../../strategies/mod.ts";

const result: RunResult = {
  usage: { promptTokens: 1, cachedTokens: 0, completionTokens: 2, drawnTokens: 2 },
  meters: {},
  metrics: {},
  choices: [],
  steps: [],
};

const text = (text: string): RunEvent => ({ type: "text", choice: 0, text, tokens: [] });

/** Collects texts by choice, and the results. */
async function drain(run: Run<readonly RunResult[]>) {
  const texts: string[] = [];
  while (true) {
    const { done, value } = await run.next();
    if (done) return { texts, results: value };
    if (value.type === "text") texts[value.choice] = (texts[value.choice] ?? "") + value.text;
  }
}

Deno.test("mergeRuns() renumbers choices and keeps each run's order and result", async () => {
  async function* run(id: string, pauses: number): Run<RunResult> {
    for (let i = 0; i < 3; i++) {
      for (let turn = 0; turn < pauses; turn++) await Promise.resolve();
      yield text(`${id}${i}`);
    }
    return { ...result, metrics: { [id]: 1 } };
  }
  const { texts, results } = await drain(mergeRuns([run("a", 9), run("b", 1)], 2, () => {}));
  assertEquals(texts, ["a0a1a2", , "b0b1b2"] as string[]);
  assertEquals(results.map(({ metrics }) => metrics), [{ a: 1 }, { b: 1 }]);
});

Deno.test("mergeRuns() asks no run more than one event ahead", async () => {
  let made = 0;
  async function* endless(): Run<RunResult> {
    while (made < 1000) yield text(String(made++));
    return await Promise.resolve(result);
  }
  const run = mergeRuns([endless(), endless()], 1, () => {});
  for (let i = 0; i < 10; i++) await run.next();
  assertEquals(made <= 12, true, `${made} events were made for 10`);
  await run.return(undefined as never);
});

Deno.test("mergeRuns() stops and closes all runs when one fails or the reader leaves", async () => {
  const closed: string[] = [];
  const stop = Promise.withResolvers<never>();
  stop.promise.catch(() => {});
  async function* waiting(): Run<RunResult> {
    try {
      yield text("w");
      return await stop.promise;
    } finally {
      closed.push("waiting");
    }
  }
  async function* failing(): Run<RunResult> {
    try {
      yield text("f");
      throw await Promise.resolve(new Error("broken"));
    } finally {
      closed.push("failing");
    }
  }
  const run = mergeRuns([waiting(), failing()], 1, (error) => stop.reject(error));
  await assertRejects(() => drain(run), Error, "broken");
  assertEquals(closed.sort(), ["failing", "waiting"]);
  closed.length = 0;
  const left = mergeRuns([waiting(), failing()], 1, () => {});
  await left.next();
  await left.return(undefined as never);
  assertEquals(closed.includes("waiting") || closed.includes("failing"), true);
});
