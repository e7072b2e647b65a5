import { assert, assertEquals, assertRejects } from "@std/assert";
import { FormatError } from "../../../runtime/errors.ts";
import {
  fetchHubModel,
  HubError,
  type HubReason,
  parseHubReference,
} from "../../../runtime/hub/mod.ts";
import { commit, type FakeFile, fakeHub, someBytes, withCache } from "./_fake_hub.ts";

const text = (value: string): FakeFile => ({ content: new TextEncoder().encode(value) });
const weights = (length: number, seed = 1): FakeFile => ({
  content: someBytes(length, seed),
  lfs: true,
});
const reference = parseHubReference("hf:org/model");
const small = { "config.json": text("{}"), "model.safetensors": weights(10_000) };

const refusals: [string, HubReason, Parameters<typeof fakeHub>[0], string][] = [
  ["a status of 401", "unauthorized", { files: small, status: 401 }, "needs HF_TOKEN"],
  ["a status of 403", "forbidden", { files: small, status: 403 }, "terms"],
  ["a status of 404", "not-found", { files: small, status: 404 }, "was not found (404)"],
  ["a status of 418", "response", { files: small, status: 418 }, "status 418"],
  ["another commit", "response", { files: small, commitHeader: "f".repeat(40) }, "another commit"],
  ["no files at all", "unsuitable", { files: {} }, "neither safetensors nor GGUF"],
  ["no config.json", "unsuitable", { files: { "model.safetensors": weights(9) } }, "config.json"],
  [
    "several GGUF files",
    "unsuitable",
    { files: { "a.gguf": weights(1), "b.gguf": weights(1) } },
    "name one as hf:org/model/FILE: a.gguf, b.gguf",
  ],
  [
    "several safetensors files without an index",
    "unsuitable",
    {
      files: {
        "config.json": text("{}"),
        "a.safetensors": weights(1),
        "b.safetensors": weights(1),
      },
    },
    "no index",
  ],
  [
    "a split GGUF file",
    "unsuitable",
    { files: { "m-00001-of-00002.gguf": weights(1) } },
    "split GGUF",
  ],
  ["a list that is HTML", "response", { files: small, listing: "<html>" }, "not JSON"],
  ["a list that is a list", "response", { files: small, listing: "[]" }, "not an object"],
  ["a list without commit", "response", { files: small, listing: `{"siblings":[]}` }, "no commit"],
  [
    "a commit that is a path",
    "response",
    { files: small, listing: `{"sha":"../../x","siblings":[]}` },
    "no commit",
  ],
  [
    "a list without files",
    "response",
    { files: small, listing: `{"sha":"${commit}"}` },
    "no files",
  ],
  ...["../config.json", "/etc/passwd", "a/../../b", "..\\x", "C:\\x"].map((rfilename) =>
    [
      `the file name ${rfilename}`,
      "response",
      { files: small, listing: JSON.stringify({ sha: commit, siblings: [{ rfilename }] }) },
      "leaves its folder",
    ] satisfies [string, HubReason, Parameters<typeof fakeHub>[0], string]
  ),
];
for (const [name, reason, hubOptions, message] of refusals) {
  Deno.test(`fetchHubModel() refuses: ${name}`, async () => {
    await using hub = fakeHub(hubOptions);
    await withCache(hub, async (options) => {
      const error = await assertRejects(() => fetchHubModel(reference, options), HubError, message);
      assertEquals([error.reason, error.repo], [reason, "org/model"]);
      assert(error.message.includes('"org/model"'));
      assertEquals(options.clock.waits, []); // none of these is tried again
    });
  });
}

Deno.test("fetchHubModel() names the file that the hub does not give out", async () => {
  await using hub = fakeHub({ files: small });
  await withCache(hub, async (options) => {
    const error = await assertRejects(
      () => fetchHubModel(parseHubReference("hf:org/model/none.gguf"), options),
      HubError,
      'Cannot download "none.gguf" of "org/model"',
    );
    assertEquals([error.reason, error.file], ["not-found", "none.gguf"]);
  });
});

Deno.test("fetchHubModel() refuses an index that names a shard outside the list or the folder", async () => {
  for (const [shard, message] of [["../x", "plain file name"], ["w.safetensors", "file list"]]) {
    const index = JSON.stringify({ weight_map: { a: shard } });
    const files = { "config.json": text("{}"), "model.safetensors.index.json": text(index) };
    await using hub = fakeHub({ files });
    await withCache(hub, async (options) => {
      const error = await assertRejects(() => fetchHubModel(reference, options), Error, message);
      assert(error instanceof FormatError || error instanceof HubError);
    });
  }
});

Deno.test("fetchHubModel() refuses an endpoint that is no http address", async () => {
  await using hub = fakeHub({ files: small });
  await withCache(hub, async (options) => {
    for (const endpoint of ["", "huggingface.co", "file:///tmp", "ftp://x"]) {
      await assertRejects(() => fetchHubModel(reference, { ...options, endpoint }), RangeError);
    }
  });
});

Deno.test("fetchHubModel() asks once for a host this process may not connect to", async () => {
  await using hub = fakeHub({ files: small });
  await withCache(hub, async (options) => {
    let calls = 0;
    const refuse = () => {
      calls++;
      return Promise.reject(new Deno.errors.NotCapable("Requires net access"));
    };
    await assertRejects(
      () => fetchHubModel(reference, { ...options, fetch: refuse as typeof fetch }),
      Deno.errors.NotCapable,
    );
    assertEquals([calls, options.clock.waits], [1, []]);
  });
});
