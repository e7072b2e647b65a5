import { assert, assertEquals, assertRejects } from "@std/assert";
import { fetchHubModel, HubError, parseHubReference } from "../../../runtime/hub/mod.ts";
import { type FakeFile, fakeHub, someBytes, withCache } from "./_fake_hub.ts";

const reference = parseHubReference("hf:org/model/m.gguf");
const content = someBytes(5000, 3);
const token = "hf_secret";

Deno.test("the token goes to the hub with every request and to no other origin", async () => {
  const files = { "m.gguf": { content, lfs: true, cuts: [2000] } };
  await using hub = fakeHub({ files, token });
  await withCache(hub, async (options) => {
    const model = await fetchHubModel(reference, { ...options, token });
    assertEquals(await Deno.readFile(model.path), content);
    const byServer = Map.groupBy(hub.seen, ({ server }) => server);
    assert((byServer.get("storage")?.length ?? 0) >= 2);
    for (const { authorization } of byServer.get("storage") ?? []) {
      assertEquals(authorization, null);
    }
    for (const { authorization } of byServer.get("hub") ?? []) {
      assertEquals(authorization, `Bearer ${token}`);
    }
  });
});

Deno.test("without a token no authorization is sent, and 401 says what is needed", async () => {
  await using hub = fakeHub({ files: { "m.gguf": { content } }, token });
  await withCache(hub, async (options) => {
    const error = await assertRejects(
      () => fetchHubModel(reference, options),
      HubError,
      "HF_TOKEN",
    );
    assertEquals([error.reason, error.status], ["unauthorized", 401]);
    assertEquals(hub.seen.map(({ authorization }) => authorization), [null]);
  });
});

Deno.test("a redirect that leads back to the hub gets the token, one that leaves it does not", async () => {
  const files: Record<string, FakeFile> = { "m.gguf": { content } };
  await using hub = fakeHub({ files, token });
  await using other = fakeHub({ files: {} });
  // Hub -> other origin -> hub again: the other origin must not see the token on the way.
  const seen: [string, string | null][] = [];
  const detour: typeof fetch = (input, init) => {
    const url = new URL(String(input));
    seen.push([url.origin, new Headers(init?.headers).get("authorization")]);
    const redirect = (location: string) =>
      Promise.resolve(new Response(null, { status: 307, headers: { location } }));
    if (url.origin === other.endpoint) return redirect(`${hub.endpoint}${url.pathname}`);
    if (url.pathname.includes("/resolve/") && !url.searchParams.has("back")) {
      if (seen.at(-2)?.[0] === other.endpoint) return fetch(input, init);
      return redirect(`${other.endpoint}${url.pathname}`);
    }
    return fetch(input, init);
  };
  await withCache(hub, async (options) => {
    const model = await fetchHubModel(reference, { ...options, token, fetch: detour });
    assertEquals(await Deno.readFile(model.path), content);
    assert(seen.some(([origin]) => origin === other.endpoint));
    for (const [origin, authorization] of seen) {
      assertEquals(authorization, origin === hub.endpoint ? `Bearer ${token}` : null);
    }
  });
});

Deno.test("a relative redirect is followed with the token", async () => {
  const files = {
    "m.gguf": {
      content,
      location: "/org/model/resolve/0123456789abcdef0123456789abcdef01234567/n",
    },
    "n": { content },
  };
  await using hub = fakeHub({ files, token });
  await withCache(hub, async (options) => {
    const model = await fetchHubModel(reference, { ...options, token });
    assertEquals(await Deno.readFile(model.path), content);
  });
});

for (
  const [what, location] of [
    ["another scheme", "file:///etc/passwd"],
    ["a data address", "data:text/plain,x"],
    ["no address", "http://"],
    ["itself for ever", "/org/model/resolve/0123456789abcdef0123456789abcdef01234567/m.gguf"],
  ] as const
) {
  Deno.test(`a redirect to ${what} is refused`, async () => {
    await using hub = fakeHub({ files: { "m.gguf": { content, location } } });
    await withCache(hub, async (options) => {
      const error = await assertRejects(() => fetchHubModel(reference, options), HubError);
      assertEquals(error.reason, "response");
      assert(/not allowed|more than 5 redirects/.test(error.message), error.message);
      assert(hub.seen.length <= 7);
    });
  });
}

Deno.test("a redirect from https to http is refused", async () => {
  const seen: string[] = [];
  const fake: typeof fetch = (input) => {
    seen.push(String(input));
    const headers = { location: "http://hub.example/elsewhere" };
    return Promise.resolve(new Response(null, { status: 302, headers }));
  };
  await using hub = fakeHub({ files: {} });
  await withCache(hub, async (options) => {
    const https = { ...options, endpoint: "https://hub.example", fetch: fake };
    await assertRejects(() => fetchHubModel(reference, https), HubError, "not allowed");
    assertEquals(seen.length, 1);
  });
});

Deno.test("errors hold neither the token nor an address", async () => {
  await using hub = fakeHub({ files: { "m.gguf": { content, etag: "a".repeat(40) } }, token });
  const failures: ((options: Parameters<typeof fetchHubModel>[1]) => typeof options)[] = [
    (options) => ({ ...options, token: "wrong-token" }),
    (options) => ({ ...options, token }), // wrong hash
    (options) => ({ ...options, token, endpoint: "http://127.0.0.1:1", retries: 0 }),
  ];
  await withCache(hub, async (options) => {
    for (const failure of failures) {
      const error = await assertRejects(() => fetchHubModel(reference, failure(options)), HubError);
      assert(!/127\.0\.0\.1|token-|secret|\/tmp|wrong-token/.test(error.message), error.message);
    }
  });
});
