import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  fetchHubModel,
  HubError,
  parseHubReference,
  type Progress,
} from "../../../runtime/hub/mod.ts";
import { commit, type FakeFile, fakeHub, someBytes, withCache } from "./_fake_hub.ts";

const text = (value: string): FakeFile => ({ content: new TextEncoder().encode(value) });
const weights = (length: number, seed = 1, options: Partial<FakeFile> = {}): FakeFile => ({
  content: someBytes(length, seed),
  lfs: true,
  ...options,
});
const reference = parseHubReference("hf:org/model");
const small = { "config.json": text("{}"), "model.safetensors": weights(10_000) };

/** Names below a folder, sorted. */
async function tree(folder: string, prefix = ""): Promise<string[]> {
  const names: string[] = [];
  for await (const entry of Deno.readDir(folder)) {
    const name = `${prefix}${entry.name}`;
    if (entry.isDirectory) names.push(...await tree(`${folder}/${entry.name}`, `${name}/`));
    else names.push(name);
  }
  return names.sort();
}

Deno.test("fetchHubModel() downloads what a safetensors model needs into the documented folder", async () => {
  const files = {
    ...small,
    "README.md": text("# no"),
    "images/a picture.png": text("no"),
    "tokenizer.json": text("{}"),
    "tokenizer_config.json": text("{}"),
    "generation_config.json": text("{}"),
    "pytorch_model.bin": weights(10),
  };
  await using hub = fakeHub({ files });
  await withCache(hub, async (options) => {
    const model = await fetchHubModel(reference, options);
    assertEquals(model.path, `${options.cacheFolder}/org--model/${commit}`);
    assertEquals([model.commit, model.stale], [commit, false]);
    assertEquals(await tree(options.cacheFolder), [
      `org--model/${commit}.json`,
      `org--model/${commit}/config.json`,
      `org--model/${commit}/generation_config.json`,
      `org--model/${commit}/model.safetensors`,
      `org--model/${commit}/tokenizer.json`,
      `org--model/${commit}/tokenizer_config.json`,
      "org--model/refs/main",
    ]);
    assertEquals(
      await Deno.readFile(`${model.path}/model.safetensors`),
      files["model.safetensors"].content,
    );
    assertEquals(model.files.get("model.safetensors")?.check.kind, "sha256");
    assertEquals(model.files.get("config.json")?.check.kind, "git-sha1");
  });
});

Deno.test("fetchHubModel() downloads the shards an index names, each once", async () => {
  const index = JSON.stringify({ weight_map: { a: "w-1.safetensors", b: "w-2.safetensors" } });
  const files = {
    "config.json": text("{}"),
    "model.safetensors.index.json": text(index),
    "w-1.safetensors": weights(3000, 1),
    "w-2.safetensors": weights(4000, 2),
    "consolidated.safetensors": weights(9, 3),
  };
  await using hub = fakeHub({ files });
  await withCache(hub, async (options) => {
    const model = await fetchHubModel(reference, options);
    assertEquals([...model.files.keys()], [
      "config.json",
      "model.safetensors.index.json",
      "w-1.safetensors",
      "w-2.safetensors",
    ]);
    assertEquals(model.path, model.folder);
    assertEquals(
      await Deno.readFile(`${model.folder}/w-2.safetensors`),
      files["w-2.safetensors"].content,
    );
  });
});

Deno.test("fetchHubModel() takes the only GGUF file, the one named, or weights with an odd name", async () => {
  const cases: [string, Record<string, FakeFile>, string][] = [
    ["hf:org/model", { "m-Q8_0.gguf": weights(50) }, "m-Q8_0.gguf"],
    ["hf:org/model/b.gguf", { "a.gguf": weights(50), "b.gguf": weights(60) }, "b.gguf"],
    ["hf:org/model@v1/sub/b.gguf", { "sub/b.gguf": weights(70) }, "sub/b.gguf"],
    ["hf:org/model", { "config.json": text("{}"), "w.safetensors": weights(9) }, "w.safetensors"],
  ];
  for (const [spec, files, expected] of cases) {
    await using hub = fakeHub({ files });
    await withCache(hub, async (options) => {
      const model = await fetchHubModel(parseHubReference(spec), options);
      assertEquals(model.path, `${model.folder}/${expected}`);
      assertEquals(await Deno.readFile(model.path), files[expected]!.content);
    });
  }
});

Deno.test("fetchHubModel() asks for nothing but the file list the second time", async () => {
  await using hub = fakeHub({ files: small });
  await withCache(hub, async (options) => {
    const first = await fetchHubModel(reference, options);
    const before = hub.seen.length;
    assertEquals(await fetchHubModel(reference, options), first);
    assertEquals(hub.seen.slice(before).map(({ path }) => path), [
      "/api/models/org/model/revision/main",
    ]);
  });
});

Deno.test("fetchHubModel() needs no connection for a complete commit", async () => {
  await using hub = fakeHub({ files: small });
  await withCache(hub, async (options) => {
    await fetchHubModel(reference, options);
    const before = hub.seen.length;
    const pinned = await fetchHubModel(parseHubReference(`hf:org/model@${commit}`), options);
    assertEquals([pinned.commit, pinned.stale, hub.seen.length], [commit, false, before]);
  });
});

Deno.test("fetchHubModel() uses the last commit of a branch when the hub cannot be reached", async () => {
  await using hub = fakeHub({ files: small });
  await withCache(hub, async (options) => {
    const offline = { ...options, fetch: () => Promise.reject(new TypeError("no network")) };
    const error = await assertRejects(() => fetchHubModel(reference, offline), HubError);
    assertEquals(error.reason, "network");
    assertEquals(options.clock.waits.length, 10); // nothing to fall back to: all retries
    const fresh = await fetchHubModel(reference, options);
    const stale = await fetchHubModel(reference, offline);
    assertEquals(stale, { ...fresh, stale: true });
    assertEquals(options.clock.waits.length, 10); // and none with something at hand
    await Deno.remove(`${fresh.folder}/model.safetensors`);
    await assertRejects(() => fetchHubModel(reference, offline), HubError, "the connection failed");
  });
});

Deno.test("fetchHubModel() fetches a file again that is gone or has another length", async () => {
  await using hub = fakeHub({ files: small });
  await withCache(hub, async (options) => {
    const { folder } = await fetchHubModel(reference, options);
    await Deno.remove(`${folder}/config.json`);
    await Deno.truncate(`${folder}/model.safetensors`, 5);
    await fetchHubModel(reference, options);
    assertEquals(
      await Deno.readFile(`${folder}/model.safetensors`),
      small["model.safetensors"].content,
    );
    assertEquals(await Deno.readTextFile(`${folder}/config.json`), "{}");
  });
});

Deno.test("fetchHubModel() trusts finished files without a record only after checking their hash", async () => {
  await using hub = fakeHub({ files: small });
  await withCache(hub, async (options) => {
    const { folder } = await fetchHubModel(reference, options);
    const damaged = someBytes(10_000, 99);
    for (const record of [undefined, "{", "[]", `{"listing":[],"files":{"config.json":3}}`]) {
      if (record === undefined) await Deno.remove(`${folder}.json`);
      else await Deno.writeTextFile(`${folder}.json`, record);
      await Deno.writeFile(`${folder}/model.safetensors`, damaged); // right length, wrong bytes
      const before = hub.gets("config.json").length;
      await fetchHubModel(reference, options);
      assertEquals(
        await Deno.readFile(`${folder}/model.safetensors`),
        small["model.safetensors"].content,
      );
      assertEquals(hub.gets("config.json").length, before); // checked, not fetched
    }
  });
});

Deno.test("fetchHubModel() reports progress of every file up to its length", async () => {
  await using hub = fakeHub({ files: small });
  await withCache(hub, async (options) => {
    const reports: Progress[] = [];
    await fetchHubModel(reference, { ...options, onProgress: (report) => reports.push(report) });
    const last = reports.filter(({ file }) => file === "model.safetensors").at(-1);
    assertEquals([last?.received, last?.total], [10_000, 10_000]);
    assert(reports.some(({ file }) => file === "config.json"));
  });
});

Deno.test("fetchHubModel() works below a path and with a slash at the end of the endpoint", async () => {
  await using hub = fakeHub({ files: small });
  await withCache(hub, async (options) => {
    const below: typeof fetch = (input, init) => {
      const url = new URL(String(input));
      if (url.origin === hub.endpoint) {
        assert(url.pathname.startsWith("/mirror/"), url.pathname);
        url.pathname = url.pathname.slice("/mirror".length);
      }
      return fetch(url, init);
    };
    await fetchHubModel(reference, {
      ...options,
      endpoint: `${hub.endpoint}/mirror/`,
      fetch: below,
    });
  });
});
