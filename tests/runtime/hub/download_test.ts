import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  fetchHubModel,
  HubError,
  type HubOptions,
  type HubReason,
  parseHubReference,
} from "../../../runtime/hub/mod.ts";
import {
  commit,
  type FakeFile,
  type FakeHub,
  fakeHub,
  hashOf,
  someBytes,
  withCache,
} from "./_fake_hub.ts";

const reference = parseHubReference("hf:org/model/m.gguf");
const content = someBytes(10_000, 7);
const partialPath = (options: HubOptions) =>
  `${options.cacheFolder}/org--model/${commit}/m.gguf.incomplete`;

/** Runs `test` with a hub that serves one GGUF file in this way. */
async function withFile(
  file: Partial<FakeFile>,
  test: (
    hub: FakeHub,
    options: Parameters<Parameters<typeof withCache>[1]>[0],
  ) => Promise<void>,
): Promise<void> {
  await using hub = fakeHub({ files: { "m.gguf": { content, lfs: true, ...file } } });
  await withCache(hub, (options) => test(hub, options));
}

async function writePartial(options: HubOptions, bytes: Uint8Array): Promise<void> {
  const path = partialPath(options);
  await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
  await Deno.writeFile(path, bytes);
}

/** Storage ranges that were asked for, in order. */
const ranges = (hub: FakeHub) =>
  hub.gets("m.gguf").filter(({ server }) => server === "storage").map(({ range }) => range);

/** The next turn of the event loop. */
const turn = () => new Promise<void>((done) => setImmediate(done));

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

for (const lfs of [true, false]) {
  Deno.test(`a cut connection is resumed where it was cut (${lfs ? "LFS" : "plain"} file)`, async () => {
    await withFile({ lfs, cuts: [3000, 2000] }, async (hub, options) => {
      const model = await fetchHubModel(reference, options);
      assertEquals(await Deno.readFile(model.path), content);
      const asked = hub.gets("m.gguf").filter(({ server }) => (server === "storage") === lfs);
      assertEquals(asked.map(({ range }) => range), [null, "bytes=3000-", "bytes=5000-"]);
      assertEquals(options.clock.waits, [1000, 2000]);
      assert(!await exists(partialPath(options)));
    });
  });
}

Deno.test("a connection cut too often fails, keeps what came, and the next run goes on there", async () => {
  await withFile({ cuts: [1000, 1000, 1000] }, async (hub, options) => {
    const error = await assertRejects(
      () => fetchHubModel(reference, { ...options, retries: 2 }),
      HubError,
      "the connection was cut",
    );
    assertEquals(error.reason, "network");
    assertEquals((await Deno.stat(partialPath(options))).size, 3000);
    const model = await fetchHubModel(reference, options);
    assertEquals(await Deno.readFile(model.path), content);
    assertEquals(ranges(hub).at(-1), "bytes=3000-");
  });
});

Deno.test("a body that ends early but properly counts as cut", async () => {
  await withFile({ endAfter: 4000 }, async (hub, options) => {
    const error = await assertRejects(
      () => fetchHubModel(reference, { ...options, retries: 3 }),
      HubError,
      "only 4000 of 10000 bytes came",
    );
    assertEquals(error.reason, "network");
    assertEquals(ranges(hub), [null, "bytes=4000-", "bytes=4000-", "bytes=4000-"]);
  });
});

Deno.test("a partial file of an earlier run is continued and its bytes are part of the hash", async () => {
  await withFile({}, async (hub, options) => {
    await writePartial(options, content.subarray(0, 6000));
    const reported: number[] = [];
    const onProgress = ({ received }: { received: number }) => void reported.push(received);
    const model = await fetchHubModel(reference, { ...options, onProgress });
    assertEquals(await Deno.readFile(model.path), content);
    assertEquals(ranges(hub), ["bytes=6000-"]);
    assertEquals([reported[0], reported.at(-1)], [6000, 10_000]);
  });
});

Deno.test("a complete partial file is checked and taken without a request for bytes", async () => {
  await withFile({}, async (hub, options) => {
    await writePartial(options, content);
    const model = await fetchHubModel(reference, options);
    assertEquals(await Deno.readFile(model.path), content);
    assertEquals(ranges(hub), []);
  });
});

Deno.test("a damaged or too long partial file is downloaded anew", async () => {
  const cases = [someBytes(10_000, 8), someBytes(6000, 8), someBytes(10_001, 8)];
  for (const partial of cases) {
    await withFile({}, async (hub, options) => {
      await writePartial(options, partial);
      const model = await fetchHubModel(reference, options);
      assertEquals(await Deno.readFile(model.path), content);
      assertEquals(ranges(hub).at(-1), null);
    });
  }
});

Deno.test("a server without ranges (200) makes the download start over", async () => {
  await withFile({ noRanges: true, cuts: [3000] }, async (hub, options) => {
    await writePartial(options, someBytes(6000, 8)); // wrong bytes: must not survive
    const model = await fetchHubModel(reference, options);
    assertEquals(await Deno.readFile(model.path), content);
    assertEquals(ranges(hub), ["bytes=6000-", "bytes=3000-"]);
  });
});

Deno.test("a refused range (416) makes the download start over", async () => {
  await withFile({ refuseRange: { once: true } }, async (hub, options) => {
    await writePartial(options, content.subarray(0, 6000));
    const model = await fetchHubModel(reference, options);
    assertEquals(await Deno.readFile(model.path), content);
    assertEquals(ranges(hub), ["bytes=6000-", null]);
  });
});

Deno.test("an empty file needs no request for bytes", async () => {
  await withFile({ content: new Uint8Array(0) }, async (hub, options) => {
    const model = await fetchHubModel(reference, options);
    assertEquals((await Deno.stat(model.path)).size, 0);
    assertEquals(ranges(hub), []);
  });
});

Deno.test("passing errors are tried again after the wait the server asks for", async () => {
  await withFile({ statuses: [503, 429, 500] }, async (hub, options) => {
    const model = await fetchHubModel(reference, options);
    assertEquals(await Deno.readFile(model.path), content);
    assertEquals(options.clock.waits, [1000, 2000, 4000]);
    assertEquals(ranges(hub).length, 4);
  });
});

const faults: [string, Partial<FakeFile>, HubReason, string][] = [
  ["a wrong sha256", { etag: "a".repeat(64) }, "corrupt", "its sha256 is not the one"],
  ["a wrong git blob id", { lfs: false, etag: "b".repeat(40) }, "corrupt", "its git-sha1 is not"],
  ["fewer bytes than announced", { size: 10_001 }, "corrupt", "10000 bytes were sent, 10001"],
  ["more bytes than announced", { size: 9999 }, "corrupt", "10000 bytes were sent, 9999 announced"],
  [
    "more bytes than announced, without a length",
    { size: 9000, endAfter: 10_000 },
    "corrupt",
    "longer than the 9000 bytes",
  ],
  ["a length that is no number", { size: NaN }, "response", "does not say how long"],
  ["404 from the storage", { statuses: [404] }, "not-found", "was not found"],
  ["403 from the storage", { statuses: [403] }, "forbidden", "403"],
];
for (const [name, file, reason, message] of faults) {
  Deno.test(`a download is refused for ${name}`, async () => {
    await withFile(file, async (_hub, options) => {
      const error = await assertRejects(() => fetchHubModel(reference, options), HubError, message);
      assertEquals([error.reason, error.repo, error.file], [reason, "org/model", "m.gguf"]);
      assert(!await exists(partialPath(options).replace(".incomplete", "")));
      assertEquals(options.clock.waits, []);
    });
  });
}

Deno.test("a file whose hash was wrong leaves nothing to resume", async () => {
  await withFile({ etag: "a".repeat(64) }, async (_hub, options) => {
    await assertRejects(() => fetchHubModel(reference, options), HubError);
    assert(!await exists(partialPath(options)));
  });
});

Deno.test("another part than the one asked for is refused", async () => {
  for (const contentRange of ["bytes 0-9999/10000", "bytes 6000-9999/20000", "nonsense"]) {
    await withFile({ contentRange }, async (_hub, options) => {
      await writePartial(options, content.subarray(0, 6000));
      await assertRejects(() => fetchHubModel(reference, options), HubError, "another part");
      assertEquals((await Deno.stat(partialPath(options))).size, 6000);
    });
  }
});

Deno.test("without a known hash the length alone is checked, and the result says so", async () => {
  for (const etag of [null, "abc", "d41d8cd98f00b204e9800998ecf8427e"]) {
    await withFile({ etag }, async (_hub, options) => {
      const model = await fetchHubModel(reference, options);
      assertEquals(model.files.get("m.gguf")?.check, { kind: "length" });
    });
  }
  await withFile({ etag: hashOf({ content, lfs: true }).toUpperCase() }, async (_hub, options) => {
    const model = await fetchHubModel(reference, options);
    assertEquals(model.files.get("m.gguf")?.check.kind, "sha256");
  });
});

Deno.test("a connection that falls silent is given up after the idle limit and resumed", async () => {
  await withFile({ stalls: { left: 1 } }, async (hub, options) => {
    // The clock jumps past the idle limit once, when the first bytes have come. Each look at it
    // takes 200 ms, so that progress is reported.
    let now = 0;
    let started = false;
    let jumped = false;
    const clock = {
      now: () => now += 200,
      async wait(ms: number, signal: AbortSignal) {
        const idle = ms >= 50_000;
        while (idle && (!started || jumped) && !signal.aborted) await turn();
        signal.throwIfAborted();
        now += ms;
        jumped ||= idle;
      },
    };
    const onProgress = ({ received }: { received: number }) => void (started = received > 0);
    const model = await fetchHubModel(reference, { ...options, clock, onProgress });
    assertEquals(await Deno.readFile(model.path), content);
    const resumedAt = ranges(hub).at(-1);
    assert(resumedAt !== null && resumedAt !== undefined, "the second request has a range");
  });
});

Deno.test("aborting rejects with the signal's reason and keeps what came", async () => {
  await withFile({}, async (_hub, options) => {
    const controller = new AbortController();
    const reason = new Error("changed my mind");
    const onProgress = ({ received }: { received: number }) => {
      if (received > 0) controller.abort(reason);
    };
    const { signal } = controller;
    const run = fetchHubModel(reference, { ...options, signal, onProgress });
    const error = await assertRejects(() => run, Error);
    assertEquals(error, reason);
    assert((await Deno.stat(partialPath(options))).size > 0);
    assertEquals(options.clock.waits, []);
  });
});

Deno.test("a file that another process downloads is refused as busy", async () => {
  await withFile({}, async (_hub, options) => {
    await writePartial(options, content.subarray(0, 10));
    using held = await Deno.open(partialPath(options), { read: true, write: true });
    await held.lock(true);
    const error = await assertRejects(() => fetchHubModel(reference, options), HubError);
    assertEquals(error.reason, "busy");
  });
});
