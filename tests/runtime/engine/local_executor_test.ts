import { fullKvSupport } from "../../../runtime/backend/backend.ts";
import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { createCpuBackend } from "../../../runtime/backend/cpu/mod.ts";
import type { Answer, Batch, Executor, Want } from "../../../runtime/engine/executor.ts";
import { createLocalExecutor } from "../../../runtime/engine/local_executor.ts";
import { EngineError } from "../../../runtime/errors.ts";
import type { KvSignal } from "../../../runtime/kv/policy.ts";
import { loadDecoder } from "../../../runtime/models/mod.ts";
import { entropy, logSoftmax, topK } from "../../../runtime/sampling.ts";
import { hashedWeights, llamaShapes, tinyConfig } from "../../fakes/hashed_weights.ts";
import { greedyWant, rowsOf, Sequence, tokenOf } from "../../fakes/sequence.ts";

const pageSize = 4;
const kvSignals: readonly KvSignal[] = [
  "attention-sum",
  "attention-last",
  "attention-max",
  "key-norm",
];

function createExecutor(contextLength = 64): Executor {
  const backend = createCpuBackend();
  const decoder = loadDecoder(tinyConfig, hashedWeights(llamaShapes(tinyConfig)), backend);
  return createLocalExecutor(decoder, backend, { pages: 32, pageSize, contextLength });
}

/** `count` made-up tokens. */
function tokensOf(count: number, salt = 0): number[] {
  return Array.from({ length: count }, (_, i) => (i * i + 7 * i + 13 * salt) % tinyConfig.vocab);
}

/** A sequence on pages `first` and up. */
function sequence(executor: Executor, first = 0): Sequence {
  return new Sequence(executor, Uint32Array.from({ length: 8 }, (_, i) => first + i));
}

/** Every signal of both slots of a two-token row, in one layer and head. */
function signalWants(slots: Uint32Array): Want[] {
  return kvSignals.map((name) => ({ kind: "signal", name, layer: 1, kvHead: 0, slots }));
}

Deno.test("execute() answers what attention recorded about slots, and nothing unless asked to", async () => {
  await using executor = createExecutor();
  const slots = Uint32Array.of(0, 1);
  const batch = (signals: readonly KvSignal[]): Batch => ({
    step: 0,
    edits: [],
    signals,
    rows: [{
      tokens: Uint32Array.of(3, 4),
      positions: slots,
      slots: [slots],
      tables: {
        granularity: "sequence",
        pages: [Uint32Array.of(0)],
        counts: Uint32Array.of(2),
      },
      wants: signalWants(slots),
    }],
  });
  const values = (answers: readonly Answer[]) =>
    answers.map((answer) => answer.kind === "signal" ? [...answer.values] : []);
  const silent = values((await executor.execute(batch([]))).answers[0]!);
  assertEquals(silent, kvSignals.map(() => [0, 0]));
  const [sum, last, max, norm] = values((await executor.execute(batch(kvSignals))).answers[0]!);
  // Two query heads look through this kv head: the first token at itself, the second at both.
  assertAlmostEquals(sum![0]! + sum![1]!, 4, 1e-5);
  assertAlmostEquals(last![0]! + last![1]!, 2, 1e-5);
  assertEquals(max![0], 1);
  assert(norm!.every((length) => length > 0));
});

const logitsWant: Want = { kind: "logits", last: 1 };

Deno.test("createLocalExecutor() says what the engine has to know", async () => {
  await using executor = createExecutor();
  const { rope, ...info } = executor.info;
  assertEquals(rope?.headDim, 6);
  assertEquals(info, {
    support: fullKvSupport,
    slotsPerPage: { int8: 8, int4: 12, kivi4: 0 },
    heads: 4,
    steps: { stepTokens: 64, chunkTokens: 32 },
    adapters: [],
    backend: "cpu",
    vocab: 50,
    contextLength: 64,
    layers: 2,
    hidden: 24,
    kv: { layers: 2, kvHeads: 2, headDim: 6, pageSize: 4 },
    pages: 32,
    pageBytes: 2 * 4 * 2 * 2 * 6 * 4,
  });
  assertThrows(() => createExecutor(tinyConfig.contextLength + 1), RangeError);
});

Deno.test("execute() answers every kind of want from the same logits", async () => {
  await using executor = createExecutor();
  const tokens = tokensOf(6);
  const rows = rowsOf((await sequence(executor).run(tokens, [{ kind: "logits", last: 6 }]))[0]);
  const answers = await sequence(executor).run(tokens, [
    { kind: "score", targets: Uint32Array.of(3, 49, 0) },
    { kind: "topk", k: 4, last: 2 },
    { kind: "entropy", last: 3 },
    greedyWant,
    { kind: "hidden", layer: 1, last: 2 },
    { kind: "logits", last: 2 },
    { kind: "hidden", layer: 1, last: 1 },
  ]);
  const scores = [3, 49, 0].map((target, i) => logSoftmax(rows[3 + i]!)[target]!);
  const score = answers[0]!;
  assert(score.kind === "score");
  for (const [i, value] of scores.entries()) assertAlmostEquals(score.values[i]!, value, 1e-6);
  assertEquals(answers[1], { kind: "topk", rows: rows.slice(4).map((row) => topK(row, 4)) });
  assertEquals(answers[2], {
    kind: "entropy",
    values: Float32Array.from(rows.slice(3), entropy),
  });
  assertEquals(tokenOf(answers[3]), topK(rows[5]!, 1).candidates[0]!.token);
  assertEquals(rowsOf(answers[5]), rows.slice(4));
  assertEquals(rowsOf(answers[4]).length, 2);
  assertEquals(rowsOf(answers[6]), rowsOf(answers[4]).slice(1));
});

Deno.test("execute() keeps hidden states of rows and layers apart", async () => {
  await using executor = createExecutor();
  const want = (layer: number, last: number): Want => ({ kind: "hidden", layer, last });
  const alone = async (salt: number, layer: number, last: number) =>
    rowsOf((await sequence(executor).run(tokensOf(4, salt), [want(layer, last)]))[0]);
  const expected = [
    [await alone(1, 0, 2), await alone(1, 2, 1)],
    [await alone(2, 2, 4)],
    [await alone(3, 0, 1), await alone(3, 1, 3)],
  ];
  const { answers } = await executor.execute({
    step: 1,
    edits: [],
    rows: [
      sequence(executor, 0).row(tokensOf(4, 1), [want(0, 2), want(2, 1)]),
      sequence(executor, 8).row(tokensOf(4, 2), [want(2, 4)]),
      sequence(executor, 16).row(tokensOf(4, 3), [want(0, 1), want(1, 3)]),
    ],
  });
  assertEquals(answers.map((row) => row.map(rowsOf)), expected);
});

Deno.test("execute() gives a row the same logits, to the bit, alone and in a crowd", async () => {
  await using executor = createExecutor();
  const prompts = Array.from({ length: 4 }, (_, i) => tokensOf(3 + 5 * i, i));
  const alone: Answer[] = [];
  for (const prompt of prompts) {
    alone.push((await sequence(executor).run(prompt, [logitsWant]))[0]!);
  }
  const { answers } = await executor.execute({
    step: 1,
    edits: [],
    rows: prompts.map((prompt, i) => sequence(executor, 8 * i).row(prompt, [logitsWant])),
  });
  assertEquals(answers.map((row) => row[0]!), alone);
});

Deno.test("execute() applies copies before rows, so that a fork continues on its own page", async () => {
  await using executor = createExecutor();
  const prompt = tokensOf(6), next = [17, 4];
  const parent = sequence(executor, 0);
  const expected = rowsOf((await sequence(executor, 8).run([...prompt, ...next], [logitsWant]))[0]);
  await parent.run(prompt, []);
  // The fork shares page 0; page 1 is half full and copied to page 16.
  const fork = new Sequence(executor, Uint32Array.of(0, 16, 17));
  fork.row(prompt, []);
  const copy = {
    op: "copy",
    from: Uint32Array.of(4, 5),
    to: Uint32Array.of(64, 65),
  } as const;
  const { answers } = await executor.execute({
    step: 2,
    edits: [copy],
    rows: [parent.row([1, 2, 3], []), fork.row(next, [logitsWant])],
  });
  assertEquals(rowsOf(answers[1]![0]), expected);
});

Deno.test("execute() under a tree mask gives each node what its path alone would", async () => {
  await using executor = createExecutor();
  const prompt = tokensOf(5);
  const tree = { tokens: [10, 20, 30, 40], parents: [-1, 0, 0, -1] };
  const sequenceOfTree = sequence(executor);
  await sequenceOfTree.run(prompt, []);
  const row = sequenceOfTree.row(tree.tokens, [{ kind: "logits", last: 4 }]);
  const depths = [0, 1, 1, 0];
  const { answers } = await executor.execute({
    step: 1,
    edits: [],
    rows: [{
      ...row,
      positions: Uint32Array.from(depths, (depth) => prompt.length + depth),
      treeMask: Uint32Array.of(0b0001, 0b0011, 0b0101, 0b1000),
    }],
  });
  const nodes = rowsOf(answers[0]![0]);
  for (const [node, path] of [[10], [10, 20], [10, 30], [40]].entries()) {
    const alone = await sequence(executor, 16).run([...prompt, ...path], [logitsWant]);
    assertEquals(nodes[node], rowsOf(alone[0])[0], `node ${node}`);
  }
});

Deno.test("execute() with no rows only applies edits", async () => {
  await using executor = createExecutor();
  const copy = { op: "copy", from: Uint32Array.of(0), to: Uint32Array.of(9) } as const;
  assertEquals(await executor.execute({ step: 0, edits: [copy], rows: [] }), { answers: [] });
});

Deno.test("execute() fails an ask that cannot be answered and not its neighbours", async () => {
  await using executor = createExecutor();
  const mask = new Uint32Array(2); // allows nothing
  const { answers } = await executor.execute({
    step: 0,
    edits: [],
    rows: [
      sequence(executor, 0).row([1], [{ ...greedyWant, mask }, logitsWant]),
      sequence(executor, 8).row([2], [{ kind: "score", targets: Uint32Array.of(50) }]),
      sequence(executor, 16).row([3], [greedyWant]),
    ],
  });
  const [masked, logits] = answers[0]!;
  assert(masked?.kind === "failed" && masked.name === "RangeError", JSON.stringify(masked));
  assertEquals(logits!.kind, "logits");
  assert(answers[1]![0]!.kind === "failed");
  assertEquals(answers[2]![0]!.kind, "sample");
});

Deno.test("execute() rejects the batch when a row makes no sense, and works afterwards", async () => {
  await using executor = createExecutor();
  const row = () => sequence(executor).row([1, 2], [logitsWant]);
  const outside = { ...row(), slots: [Uint32Array.of(0, 32 * pageSize)] };
  const bad = [
    { ...row(), tokens: Uint32Array.of(1, 50) },
    { ...row(), positions: Uint32Array.of(0) },
    { ...row(), tokens: new Uint32Array(0), positions: new Uint32Array(0) },
    { ...row(), wants: [{ kind: "logits", last: 3 } as const] },
    { ...row(), wants: [{ kind: "hidden", layer: 3, last: 1 } as const] },
    outside,
  ];
  for (const wrong of bad) {
    const batch = { step: 7, edits: [], rows: [wrong] };
    await assertRejects(() => executor.execute(batch), EngineError, "Step 7 failed");
  }
  const { answers } = await executor.execute({ step: 8, edits: [], rows: [row()] });
  assertEquals(answers[0]![0]!.kind, "logits");
});
