import { assert, assertEquals, assertInstanceOf, assertRejects } from "@std/assert";
import { createEngine } from "../../../runtime/engine/engine.ts";
import { createModelExecutor } from "../../../runtime/engine/model_executor.ts";
import { createWorkerExecutor } from "../../../runtime/engine/worker_executor.ts";
import { plainError, reviveError } from "../../../runtime/engine/worker_messages.ts";
import {
  CapabilityError,
  ClosedError,
  DeviceLostError,
  EngineError,
  FormatError,
  NotFoundError,
} from "../../../runtime/errors.ts";
import { openModelFiles } from "../../../runtime/model_files.ts";
import { greedySampling } from "../../../runtime/sampling.ts";
import { testLanguageModel } from "../../conformance/language_model.ts";

const path = decodeURIComponent(
  new URL("../../../models/decant-tiny-draft", import.meta.url).pathname,
);
const { vocab, weights } = await openModelFiles(path);
weights[Symbol.dispose]();
const spec = {
  path,
  backend: "cpu",
  contextLength: 256,
  vocab: vocab.size,
  pageSize: 16,
  pages: 256,
};

testLanguageModel("engine over a Worker", async () => {
  const model = createEngine({ id: "m", vocab, executor: await createWorkerExecutor(spec) });
  return { model, close: async () => await model[Symbol.asyncDispose]() };
});

Deno.test("createWorkerExecutor() answers bit for bit as the executor in this thread", async () => {
  const prompt = vocab.encode("Once upon a time, there was 1 dog and 22 cats.");
  const answers: unknown[] = [];
  for (const create of [createModelExecutor, createWorkerExecutor]) {
    await using model = createEngine({ id: "m", vocab, executor: await create(spec) });
    using session = model.session(prompt);
    const logits = await session.logits({ last: 3 });
    const hidden = await session.hidden(1);
    const sampling = { ...greedySampling, temperature: 1, seed: { low: 7, high: 0 } };
    const tokens: number[] = [];
    for await (const { token } of session.generate({ sampling, maxTokens: 24, ignoreStop: true })) {
      tokens.push(token);
    }
    const score = await session.score({ last: 24 });
    answers.push({ logits: [...logits], hidden: [...hidden], tokens, score });
  }
  assertEquals(answers[0], answers[1]);
});

Deno.test("createWorkerExecutor() rejects with the loader's own error class", async () => {
  const missing = await assertRejects(
    () => createWorkerExecutor({ ...spec, path: `${path}-none` }),
    NotFoundError,
  );
  assertEquals([missing.kind, missing.subject], ["file", "config.json"]);
  await assertRejects(() => createWorkerExecutor({ ...spec, contextLength: 1e6 }), RangeError);
  await assertRejects(() => createWorkerExecutor({ ...spec, backend: "nope" }), NotFoundError);
});

Deno.test("createWorkerExecutor() fails asks after it was closed, and closes twice", async () => {
  const executor = await createWorkerExecutor(spec);
  await executor[Symbol.asyncDispose]();
  await executor[Symbol.asyncDispose]();
  await assertRejects(() => executor.execute({ step: 0, edits: [], rows: [] }), ClosedError);
});

Deno.test("createWorkerExecutor() fails one step on bad rows and goes on", async () => {
  await using executor = await createWorkerExecutor(spec);
  const bad = { step: 0, edits: [], rows: [{} as never] };
  await assertRejects(() => executor.execute(bad), EngineError);
  assertEquals((await executor.execute({ step: 1, edits: [], rows: [] })).answers, []);
});

Deno.test("reviveError() keeps class, message and fields", () => {
  const format = reviveError(
    structuredClone(plainError(new FormatError("too short", { source: "x", offset: 3 }))),
  );
  assertInstanceOf(format, FormatError);
  assertEquals([format.source, format.offset, format.name], ["x", 3, "FormatError"]);
  assertEquals(format.message, "Cannot read x at offset 3: too short");
  assertInstanceOf(reviveError(plainError(new RangeError("r"))), RangeError);
  const other = reviveError(plainError(new CapabilityError("m", ["logits"])));
  assertInstanceOf(other, EngineError);
  assert(other.message.includes("logits"));
  assertInstanceOf(reviveError(plainError("text")), EngineError);
});

Deno.test("createWorkerExecutor() replaces a Worker that dies; its step fails, what follows does not", async () => {
  const script = new URL("./_dying_worker.ts", import.meta.url);
  const executor = await createWorkerExecutor(spec, script);
  await using model = createEngine({ id: "m", vocab, executor });
  const prompt = vocab.encode("Once upon a time");
  using session = model.session(prompt);
  const before = await session.logits();
  using other = model.session([...prompt, 5]);
  await other.logits();
  using third = model.session([...prompt, 6]);
  const lost = await assertRejects(() => third.logits(), DeviceLostError);
  assert(lost.reason.includes("Worker"));
  assertEquals(executor.isReady, false);
  using again = model.session(prompt);
  const after = await again.logits();
  assertEquals(executor.isReady, true);
  assertEquals([...after[0]!], [...before[0]!]);
  assertEquals((await third.logits()).length, 1);
  model.checkPages();
});
