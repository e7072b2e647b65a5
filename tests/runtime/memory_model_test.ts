import { assertEquals, assertThrows } from "@std/assert";
import { createCpuBackend } from "../../runtime/backend/cpu/mod.ts";
import { FormatError, OutOfPagesError } from "../../runtime/errors.ts";
import { createMeter, type RequestScope } from "../../runtime/model.ts";
import { loadModel } from "../../runtime/load.ts";
import { loadMemoryModel, type MemoryFiles } from "../../runtime/memory_model.ts";
import { testLanguageModel } from "../conformance/language_model.ts";

const folder = new URL("../../models/decant-tiny-draft/", import.meta.url);
const text = (name: string) => Deno.readTextFileSync(new URL(name, folder));
const files: MemoryFiles = {
  config: text("config.json"),
  tokenizer: text("tokenizer.json"),
  tokenizerConfig: text("tokenizer_config.json"),
  generation: text("generation_config.json"),
  weights: Deno.readFileSync(new URL("model.safetensors", folder)),
};

function load(extra: Partial<Parameters<typeof loadMemoryModel>[1]> = {}) {
  return loadMemoryModel(files, {
    id: "m",
    backend: createCpuBackend(),
    context: 256,
    kvBytes: 4 * 1024 * 1024,
    requests: 2,
    created: 0,
    ...extra,
  });
}

testLanguageModel("isolated model", () => {
  const loaded = load({ requests: 64 });
  return { model: loaded.model, close: async () => await loaded[Symbol.asyncDispose]() };
});

function scope(): RequestScope & { abort(): void } {
  const controller = new AbortController();
  return {
    id: "r",
    signal: controller.signal,
    meter: createMeter(),
    cacheSalt: "",
    abort: () => controller.abort(),
  };
}

Deno.test("loadMemoryModel() computes the same logits as loadModel() from the folder", async () => {
  await using fromMemory = load();
  await using fromFolder = await loadModel(decodeURIComponent(folder.pathname), {
    id: "m",
    backend: "cpu",
    thread: "own",
    context: 256,
    kvBytes: 4 * 1024 * 1024,
    created: 0,
    ownedBy: "test",
  });
  const rows = [];
  for (const { model } of [fromMemory, fromFolder]) {
    using session = model.session(model.vocab!.encode("Once upon a time"));
    rows.push([...(await session.logits())[0]!]);
  }
  assertEquals(rows[0], rows[1]);
});

Deno.test("requests of an isolated model hold a pool each, up to the limit, and give it back", async () => {
  await using loaded = load();
  const { model } = loaded;
  const scopes = [scope(), scope()];
  const tokens = model.vocab.encode("Once upon");
  const sessions = scopes.map((one) => model.session(tokens, { scope: one }));
  using second = model.session(tokens, { scope: scopes[0]! });
  assertEquals(model.pools(), { busy: 2, total: 2 });
  assertThrows(() => model.session(tokens, { scope: scope() }), OutOfPagesError);
  scopes[1]!.abort();
  assertEquals(model.pools(), { busy: 1, total: 2 });
  using third = model.session(tokens, { scope: scope() });
  const row = (one: typeof third) => one.logits().then(([logits]) => [...logits!]);
  assertEquals(await row(third), await row(second));
  sessions[0]![Symbol.dispose]();
});

Deno.test("a request whose turns are dropped does not hold up the next one", async () => {
  let drop = true;
  await using loaded = load({
    requests: 1,
    nextTurn: (run) => void (drop || setImmediate(run)),
  });
  const { model } = loaded;
  const tokens = model.vocab.encode("Once upon");
  const gone = scope();
  const lost = model.session(tokens, { scope: gone }).logits();
  lost.catch(() => {});
  gone.abort(); // its turn never comes
  drop = false;
  using session = model.session(tokens, { scope: scope() });
  assertEquals((await session.logits()).length, 1);
});

Deno.test("loadMemoryModel() names the damaged file", () => {
  const damaged = { ...files, weights: files.weights.subarray(0, 1000) };
  const error = assertThrows(
    () =>
      loadMemoryModel(damaged, {
        id: "m",
        backend: createCpuBackend(),
        kvBytes: 1,
        requests: 1,
        created: 0,
      }),
    FormatError,
  );
  assertEquals((error as FormatError).source, "model.safetensors");
});
