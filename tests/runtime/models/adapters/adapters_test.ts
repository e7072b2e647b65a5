import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertNotEquals,
  assertThrows,
} from "@std/assert";
import type { Backend } from "../../../../runtime/backend/backend.ts";
import { createCpuBackend } from "../../../../runtime/backend/cpu/mod.ts";
import { createWasmBackend } from "../../../../runtime/backend/wasm/mod.ts";
import { FormatError } from "../../../../runtime/errors.ts";
import { readSafetensors } from "../../../../runtime/formats/safetensors.ts";
import { type LoadedModel, loadModel } from "../../../../runtime/load.ts";
import { createMeter, greedySampling, seedFrom } from "../../../../runtime/mod.ts";
import { openWeightFiles } from "../../../../runtime/model_files.ts";
import { normsDigest, requireBase } from "../../../../runtime/models/adapters/base.ts";
import { loadAdapter } from "../../../../runtime/models/adapters/mod.ts";
import type { ModelConfig } from "../../../../runtime/models/mod.ts";
import { bytesSource } from "../../../../runtime/formats/reader.ts";
import { f32Bytes, safetensorsBytes } from "../../formats/_writers.ts";

const folder = new URL("../../../../models/decant-tiny", import.meta.url).pathname;
const { config, weights } = await openWeightFiles(folder);
const digest = normsDigest(config, weights);
weights[Symbol.dispose]();

function open(): Promise<LoadedModel> {
  const settings = { id: "tiny", backend: "auto", thread: "own", ownedBy: "test" } as const;
  return loadModel(folder, { ...settings, kvBytes: 64 << 20, created: 0 });
}

const facts = "Facts: fish = red. goat = tall. bird = cold. frog = soft. lion = warm. " +
  "duck = blue. wolf = kind. bear = gray. mouse = slow.\nWhat is goat?";

/** Greedy text of a request under a policy, and what its cache held. */
async function answer(model: LoadedModel, name: string, params = {}) {
  const meter = createMeter();
  const scope = { id: name, signal: new AbortController().signal, meter, cacheSalt: name };
  using session = model.engine.session([{ role: "user", content: facts }], {
    scope: { ...scope, kv: { name, params } },
  });
  const sampling = { ...greedySampling, seed: seedFrom(1) };
  const logits: number[] = [];
  for await (const { token, logprob } of session.generate({ sampling, maxTokens: 6 })) {
    logits.push(token, logprob);
  }
  return { logits, kept: meter.kv!.tokensKept, length: session.length };
}

Deno.test("decant-tiny's adapters serve nats and tokenbutler", async () => {
  await using model = await open();
  const full = await answer(model, "full");
  // Everything is read: not a bit of difference.
  const wide = await answer(model, "tokenbutler", { budget: 500 });
  assertEquals(wide.logits, full.logits);
  const narrow = await answer(model, "tokenbutler", { budget: 16 });
  assertNotEquals(narrow.logits, full.logits);
  assertEquals(narrow.kept, full.kept);
  // All types global: the whole cache.
  assertEquals((await answer(model, "nats", { global_bias: 1000 })).kept, full.kept);
  const routed = await answer(model, "nats");
  assert(routed.kept < 0.7 * full.kept, `${routed.kept} of ${full.kept} tokens kept`);
  assertEquals(routed.logits[0], full.logits[0], "the fact is found");
});

Deno.test("requireBase() refuses an adapter of another model", () => {
  requireBase(new Map(), digest);
  requireBase(new Map([["base_norms", digest]]), digest);
  assertThrows(
    () => requireBase(new Map([["base_norms", "00"]]), digest),
    FormatError,
    "other weights",
  );
});

const tiny: ModelConfig = { ...config, layers: 1, hidden: 2, kvHeads: 2 };

function fileOf(tensors: Record<string, readonly number[]>, metadata?: Record<string, string>) {
  const entries = Object.entries(tensors).map(([name, shape]) => {
    const size = shape.reduce((a, b) => a * b, 1);
    return [name, { dtype: "F32", shape, data: f32Bytes(...Array(size).fill(0.5)) }];
  });
  return readSafetensors(
    bytesSource(safetensorsBytes(Object.fromEntries(entries), metadata), "adapter"),
  );
}

Deno.test("loadAdapter() takes published score heads, which carry no metadata", () => {
  using backend = createCpuBackend();
  using file = fileOf({ "layers.0.weight": [2, 2], "layers.0.bias": [2] });
  const { name, adapter } = loadAdapter(file, tiny, backend);
  using heads = adapter!;
  assertEquals([name, heads.name], ["score-heads", "score-heads"]);
  const scores = backend.record((ops) => {
    const hidden = backend.tensor("x", [1, 2], "f32", Float32Array.of(1, 3));
    return heads.record!(ops, 0, { hidden, q: hidden, k: hidden, v: hidden, memory: new Map() })!;
  });
  assertEquals(scores.shape, [1, 2]);
});

interface GoldenHeads {
  readonly hidden: string;
  readonly tensors: Readonly<Record<string, { readonly shape: number[]; readonly data: string }>>;
  readonly scores: readonly string[];
}

const bytesOf = (text: string) =>
  Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
const floatsOf = (text: string) => new Float32Array(bytesOf(text).buffer);
const golden: GoldenHeads = JSON.parse(
  await Deno.readTextFile(new URL("../../../golden/kv.json", import.meta.url)),
).kvzap;

for (const create of [createCpuBackend, createWasmBackend]) {
  for (const prefix of ["layers", "module_list"]) {
    Deno.test(`loadAdapter() runs score heads of two layers as numpy does: ${create.name}, ${prefix}`, async () => {
      using backend = create();
      const entries = Object.entries(golden.tensors).map(([name, { shape, data }]) =>
        [name.replace("layers", prefix), { dtype: "F32", shape, data: bytesOf(data) }] as const
      );
      const bytes = safetensorsBytes(Object.fromEntries(entries));
      using file = readSafetensors(bytesSource(bytes, "adapter"));
      const { adapter } = loadAdapter(
        file,
        { ...config, layers: 2, hidden: 8, kvHeads: 2 },
        backend,
      );
      using heads = adapter!;
      using hidden = backend.tensor("x", [3, 8], "f32", floatsOf(golden.hidden));
      for (const [layer, expected] of golden.scores.entries()) {
        using scores = backend.record((ops) => {
          const input = { hidden, q: hidden, k: hidden, v: hidden, memory: new Map() };
          return heads.record!(ops, layer, input)!;
        });
        const actual = await backend.read(scores);
        floatsOf(expected).forEach((score, i) => assertAlmostEquals(actual[i]!, score, 2e-6));
      }
    });
  }
}

Deno.test("loadAdapter() refuses score heads of two layers where the backend has no GELU", () => {
  using backend = createCpuBackend();
  const without: Backend = {
    ...backend,
    record: (build) => backend.record(({ gelu: _, ...ops }) => build(ops)),
  };
  using file = fileOf({ "layers.0.0.weight": [4, 2] });
  assertThrows(() => loadAdapter(file, tiny, without), FormatError, "GELU");
});

const head = { "layers.0.weight": [2, 2], "layers.0.bias": [2] };

for (
  const [what, tensors, metadata, message] of [
    ["an unknown method", {}, { method: "magic" }, "magic"],
    ["a file that says nothing", { other: [1] }, undefined, "no method"],
    ["a missing tensor", {}, { method: "nats" }, "is missing"],
    ["other shapes", { "nats.layers.0.router.weight": [6, 3] }, { method: "nats" }, "[6, 2]"],
    [
      "an inner layer without its outer one",
      {
        "layers.0.0.weight": [4, 2],
        "layers.0.0.bias": [4],
      },
      undefined,
      '"layers.0.2.weight" is missing',
    ],
    ["heads of more layers", { ...head, "layers.1.weight": [2, 2] }, undefined, "1 layers"],
    ["heads with a third layer", { ...head, "layers.0.4.weight": [2, 2] }, undefined, "layers.0.4"],
    ["heads for another hidden size", { ...head, "layers.0.weight": [2, 3] }, undefined, "[2, 2]"],
    ["score heads that are none", { weight: [2] }, { method: "score-heads" }, "layers.0.weight"],
    ["a setting that is no number", {}, { method: "tokenbutler", dim: "many" }, "dim"],
  ] as const
) {
  Deno.test(`loadAdapter() refuses ${what}`, () => {
    using backend = createCpuBackend();
    using file = fileOf(tensors, metadata);
    assertThrows(() => loadAdapter(file, tiny, backend), FormatError, message);
  });
}
