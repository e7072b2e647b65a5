import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { FormatError, NotFoundError } from "../../runtime/errors.ts";
import { openSafetensors } from "../../runtime/formats/safetensors.ts";
import { type LoadedModel, loadModel } from "../../runtime/load.ts";
import { configFromJson } from "../../runtime/models/mod.ts";
import { embeddedModels, resolveModelPath } from "../../runtime/source.ts";
import type { GgufPair } from "./formats/_writers.ts";
import { fakeClock, fakeHub } from "./hub/_fake_hub.ts";
import { ggufFileOf } from "./models/_gguf_of.ts";

const embeddedRoot = decodeURIComponent(new URL("../../models/", import.meta.url).pathname);
const draft = `${embeddedRoot}decant-tiny-draft`;

function load(path: string, context?: number): Promise<LoadedModel> {
  return loadModel(path, {
    id: "m",
    backend: "cpu",
    thread: "own",
    context,
    kvBytes: 64 * 1024 * 1024,
    created: 0,
    ownedBy: "test",
  });
}

/** Logits after a prompt: equal weights and tokenizer give equal rows. */
async function logitsOf({ model }: LoadedModel): Promise<Float32Array> {
  using session = model.session(model.vocab!.encode("Once upon a time 12"));
  return (await session.logits())[0]!;
}

async function tempDir(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await Deno.makeTempDir();
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

async function copyDraft(path: string): Promise<void> {
  for await (const { name } of Deno.readDir(draft)) {
    await Deno.copyFile(`${draft}/${name}`, `${path}/${name}`);
  }
}

/** The byte-level BPE of a tokenizer.json as GGUF metadata. */
async function tokenizerPairs(folder: string): Promise<GgufPair[]> {
  const { model, added_tokens: added } = JSON.parse(
    await Deno.readTextFile(`${folder}/tokenizer.json`),
  );
  const settings = JSON.parse(await Deno.readTextFile(`${folder}/tokenizer_config.json`));
  const tokens: string[] = [];
  for (const [piece, id] of Object.entries(model.vocab)) tokens[id as number] = piece;
  const types = tokens.map(() => 1);
  for (const { id, content } of added) [tokens[id], types[id]] = [content, 3];
  const merges = model.merges.map((merge: string | string[]) =>
    typeof merge === "string" ? merge : merge.join(" ")
  );
  return [
    { key: "tokenizer.ggml.model", type: "string", value: "gpt2" },
    { key: "tokenizer.ggml.pre", type: "string", value: "qwen2" },
    { key: "tokenizer.ggml.tokens", type: "string", value: tokens },
    { key: "tokenizer.ggml.token_type", type: "i32", value: types },
    { key: "tokenizer.ggml.merges", type: "string", value: merges },
    { key: "tokenizer.ggml.eos_token_id", type: "u32", value: 2 },
    { key: "tokenizer.chat_template", type: "string", value: settings.chat_template },
  ];
}

Deno.test("loadModel() serves every embedded model with its own template and stop token", async () => {
  for (const id of embeddedModels) {
    const source = await resolveModelPath(id, { embeddedRoot, hub: () => assert(false) as never });
    assertEquals(source.origin, "embedded");
    await using loaded = await load(source.path);
    const { info, model } = loaded;
    assertEquals(info.contextLength >= 1024, true);
    assert((info.parameters ?? 0) > 100_000);
    const ids = model.vocab!.chat!.encode([{ role: "user", content: "hi" }]);
    assertStringIncludes(
      model.vocab!.decode(ids, { special: true }),
      "<|im_start|>user\nhi<|im_end|>",
    );
    assertEquals([...model.vocab!.stopTokens].includes(2), true);
  }
});

Deno.test("loadModel() gives the same logits from a GGUF file as from safetensors", async () => {
  await using dir = await tempDir();
  const config = configFromJson(await Deno.readTextFile(`${draft}/config.json`));
  using weights = openSafetensors(`${draft}/model.safetensors`);
  const path = `${dir.path}/draft.gguf`;
  await Deno.writeFile(path, ggufFileOf(config, weights, await tokenizerPairs(draft)));
  await using fromFolder = await load(draft);
  await using fromGguf = await load(path);
  const text = "It's 3 o'clock. <|im_end|> Ünïcode ≠ 42";
  assertEquals(fromGguf.model.vocab!.encode(text), fromFolder.model.vocab!.encode(text));
  const [a, b] = [await logitsOf(fromFolder), await logitsOf(fromGguf)];
  const largest = Math.max(...a.map(Math.abs));
  a.forEach((value, i) => assert(Math.abs(value - b[i]!) <= 1e-5 * largest, `${i}`));
});

Deno.test("loadModel() serves a model downloaded from a hub over a cut connection", async () => {
  await using dir = await tempDir();
  const files: Record<
    string,
    { content: Uint8Array<ArrayBuffer>; lfs?: boolean; cuts?: number[] }
  > = {};
  for await (const { name } of Deno.readDir(draft)) {
    const content = await Deno.readFile(`${draft}/${name}`);
    const isWeights = name.endsWith(".safetensors");
    files[name] = isWeights ? { content, lfs: true, cuts: [100_000] } : { content };
  }
  await using hub = fakeHub({ files, token: "secret" });
  const received: number[] = [];
  const { signal } = new AbortController();
  const source = await resolveModelPath("hf:org/model", {
    embeddedRoot,
    hub: () => ({
      endpoint: hub.endpoint,
      token: "secret",
      cacheFolder: dir.path,
      fetch,
      clock: fakeClock(signal),
      signal,
      onProgress: (progress) => received.push(progress.received),
    }),
  });
  assertEquals([source.id, source.origin], ["org/model", "hub"]);
  assert(hub.gets("model.safetensors").some((get) => get.range !== null), "resumed");
  assert(received.length > 0);
  await using downloaded = await load(source.path);
  await using local = await load(draft);
  assertEquals(await logitsOf(downloaded), await logitsOf(local));
  assertEquals(downloaded.info.fingerprint, local.info.fingerprint);
});

Deno.test("loadModel() refuses damaged files and says which part", async () => {
  const weights = await Deno.readFile(`${draft}/model.safetensors`);
  const damages: [file: string, content: Uint8Array, expected: string][] = [
    ["model.safetensors", weights.subarray(0, weights.length - 1), "model.safetensors"],
    ["model.safetensors", weights.subarray(0, 4), "model.safetensors"],
    ["config.json", new TextEncoder().encode("{"), "config.json"],
    ["config.json", new TextEncoder().encode('{"architectures":["Nope"]}'), "Nope"],
    ["tokenizer.json", new TextEncoder().encode('{"model":{}}'), "tokenizer.json"],
  ];
  for (const [file, content, expected] of damages) {
    await using dir = await tempDir();
    await copyDraft(dir.path);
    await Deno.writeFile(`${dir.path}/${file}`, content);
    const error = await assertRejects(() => load(dir.path), FormatError);
    assertStringIncludes(error.message, expected);
    assertEquals(error.message.includes(dir.path), false, "no path in the message");
  }
});

Deno.test("loadModel() names the missing file", async () => {
  for (const file of ["config.json", "tokenizer.json", "model.safetensors"]) {
    await using dir = await tempDir();
    await copyDraft(dir.path);
    await Deno.remove(`${dir.path}/${file}`);
    const error = await assertRejects(() => load(dir.path), NotFoundError);
    assertEquals([error.kind, error.subject], ["file", file]);
  }
});

Deno.test("loadModel() refuses a context beyond the model's and takes a shorter one", async () => {
  await assertRejects(() => load(draft, 1_000_000), RangeError, "1000000");
  await using short = await load(draft, 64);
  assertEquals(short.info.contextLength, 64);
});

Deno.test("loadModel() gives a fingerprint that changes with the weights", async () => {
  await using dir = await tempDir();
  await copyDraft(dir.path);
  const bytes = await Deno.readFile(`${dir.path}/model.safetensors`);
  bytes[bytes.length - 2]! ^= 1;
  await Deno.writeFile(`${dir.path}/model.safetensors`, bytes);
  await using a = await load(draft);
  await using b = await load(dir.path);
  assertEquals(a.info.fingerprint === b.info.fingerprint, false);
});

Deno.test("resolveModelPath() tells ids, paths and hub references apart", async () => {
  const hub = () => assert(false) as never;
  const source = await resolveModelPath(`${draft}/`, { embeddedRoot, hub });
  assertEquals([source.id, source.origin, source.path], ["decant-tiny-draft", "local", draft]);
  const error = await assertRejects(
    () => resolveModelPath("no-such-model", { embeddedRoot, hub }),
    NotFoundError,
  );
  assertStringIncludes(error.message, "decant-tiny");
});
