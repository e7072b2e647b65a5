/** A gateway whose model runs on the GPU, over HTTP: answers, and a device that is lost on the way. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { createGateway, type Gateway } from "../mod.ts";
import { gpu, testWithGpu } from "./_webgpu.ts";

const draft = "decant-tiny-draft";
const chat = "/v1/chat/completions";

/** A driver that opens devices once `isBack`, and the devices it opened. */
interface Driver {
  isBack: Promise<void>;
  readonly devices: GPUDevice[];
}

async function watched(run: (driver: Driver) => Promise<void>): Promise<void> {
  const driver: Driver = { isBack: Promise.resolve(), devices: [] };
  const { prototype } = GPUAdapter;
  const original = prototype.requestDevice;
  prototype.requestDevice = async function (this: GPUAdapter, options?: GPUDeviceDescriptor) {
    await driver.isBack;
    const device = await original.call(this, options);
    driver.devices.push(device);
    return device;
  };
  try {
    await run(driver);
  } finally {
    prototype.requestDevice = original;
  }
}

async function call(gateway: Gateway, path: string, body?: unknown): Promise<Response> {
  return await gateway.fetch(
    new Request(`http://localhost${path}`, {
      method: body === undefined ? "GET" : "POST",
      headers: { "content-type": "application/json" },
      ...body === undefined ? {} : { body: JSON.stringify(body) },
    }),
  );
}

const ask = (extra: Readonly<Record<string, unknown>> = {}) => ({
  model: draft,
  max_tokens: 8,
  temperature: 0,
  messages: [{ role: "user", content: "What is 27 + 58?" }],
  ...extra,
});

/** `/ready`, asked until it answers so. */
async function until(gateway: Gateway, status: number): Promise<Response> {
  for (;;) {
    const response = await call(gateway, "/ready");
    if (response.status === status) return response;
    await response.body?.cancel();
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

testWithGpu(
  "a lost device over HTTP: error event, 503 from /ready, then the same answers",
  async () => {
    assert(gpu);
    await watched(async (driver) => {
      await using gateway = await createGateway(
        { models: [draft], kv_bytes: 1 << 20, backend: "webgpu" },
        { thread: "own" },
      );
      assertEquals(gateway.backend, "webgpu");
      const first = await (await call(gateway, chat, ask())).json();
      assertStringIncludes(first.choices[0].message.content, "85");
      assertEquals((await call(gateway, "/ready")).status, 200);

      const stream = await call(
        gateway,
        chat,
        ask({ stream: true, ignore_eos: true, max_tokens: 400 }),
      );
      const reader = stream.body!.pipeThrough(new TextDecoderStream()).getReader();
      let text = (await reader.read()).value!;
      const back = Promise.withResolvers<void>();
      driver.isBack = back.promise;
      driver.devices.at(-1)!.destroy();
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        text += part.value;
      }
      assertStringIncludes(text, '"code":"device_lost"');
      assertEquals(text.includes('"finish_reason":"'), false);

      const away = await until(gateway, 503);
      assertEquals((await away.json()).error.code, "model_loading");
      assert(Number(away.headers.get("retry-after")) > 0);
      assertEquals((await call(gateway, "/health")).status, 200);
      const refused = await call(gateway, chat, ask());
      assertEquals([refused.status, (await refused.json()).error.code], [503, "model_loading"]);

      back.resolve();
      await (await until(gateway, 200)).body?.cancel();
      const again = await (await call(gateway, chat, ask())).json();
      assertEquals(again.choices, first.choices);
    });
  },
);

testWithGpu(
  "a gateway with keys and values in f16 answers, and refuses KV policies that cannot",
  async () => {
    assert(gpu);
    if (!gpu.info.features.includes("shader-f16")) return; // an adapter without f16 refuses to start
    await using gateway = await createGateway(
      { models: [draft], kv_bytes: 1 << 20, backend: "webgpu", gpu_kv: "f16" },
      { thread: "own" },
    );
    const answer = await (await call(gateway, chat, ask())).json();
    assertStringIncludes(answer.choices[0].message.content, "85");
    const other = await call(gateway, chat, ask({ decoding: { kv_policy: { name: "int8" } } }));
    assertStringIncludes(await other.text(), "int8");
    assertEquals(other.status, 400);
    const kept = await call(gateway, chat, ask({ decoding: { kv_policy: { name: "streaming" } } }));
    assertEquals(kept.status, 200);
    await kept.body?.cancel();
  },
);
