import { assertEquals, assertRejects } from "@std/assert";
import { createGpuBackend, type Gpu, openGpu } from "../../../../runtime/backend/webgpu/mod.ts";
import { createEngine } from "../../../../runtime/engine/engine.ts";
import { createLocalExecutor } from "../../../../runtime/engine/local_executor.ts";
import { createRecoveringExecutor } from "../../../../runtime/engine/recovering_executor.ts";
import { DeviceLostError } from "../../../../runtime/errors.ts";
import { greedySampling, type TokenId } from "../../../../runtime/mod.ts";
import { configFromJson, loadDecoder } from "../../../../runtime/models/mod.ts";
import { hashedWeights } from "../../../fakes/hashed_weights.ts";
import { fakeVocab } from "../../../fakes/mod.ts";
import golden from "../../../golden/logits.json" with { type: "json" };
import { testWithGpu } from "../../../_webgpu.ts";

const { config, shapes } = golden.cases["llama3-rope"];

/**
 * An engine whose device can be destroyed. The next one is there once `isBack` resolves, and opens
 * `failures` times in vain.
 */
async function openEngine(failures: number) {
  const gpus: Gpu[] = [];
  const states: boolean[] = [];
  const isBack = Promise.withResolvers<void>();
  let left = failures;
  const executor = await createRecoveringExecutor(async () => {
    if (gpus.length > 0) await isBack.promise;
    if (gpus.length > 0 && left-- > 0) throw new Error("the driver is not back yet");
    const gpu = (await openGpu())!;
    gpus.push(gpu);
    const backend = createGpuBackend(gpu, { ownsGpu: true });
    const decoder = loadDecoder(configFromJson(config), hashedWeights(shapes), backend);
    const inner = createLocalExecutor(decoder, backend, {
      pages: 16,
      pageSize: 8,
      contextLength: 64,
    });
    return {
      lost: backend.lost,
      executor: {
        info: inner.info,
        execute: inner.execute,
        async [Symbol.asyncDispose]() {
          await inner[Symbol.asyncDispose]();
          backend[Symbol.dispose]();
        },
      },
    };
  }, { onReady: (isReady) => states.push(isReady), backoff: () => 1 });
  const vocab = fakeVocab({ pieces: pieces(executor.info.vocab - 7) });
  return { engine: createEngine({ id: "test", vocab, executor }), executor, gpus, states, isBack };
}

/** One letter per token. */
function pieces(count: number): string[] {
  return Array.from({ length: count }, (_, i) => String.fromCodePoint(0x4e00 + i));
}

async function generate(
  engine: ReturnType<typeof createEngine>,
  onToken: (count: number) => void = () => {},
): Promise<TokenId[]> {
  using session = engine.session([1, 2, 3, 4, 5]);
  const tokens: TokenId[] = [];
  const options = { sampling: greedySampling, maxTokens: 40, ignoreStop: true }; // more than run ahead
  for await (const { token } of session.generate(options)) {
    tokens.push(token);
    onToken(tokens.length);
  }
  return tokens;
}

testWithGpu(
  "a lost device fails running requests for a retry, and comes back with its weights",
  async () => {
    const { engine, executor, gpus, states, isBack } = await openEngine(2);
    await using _ = engine;
    const expected = await generate(engine);
    await assertRejects(
      () => generate(engine, (count) => count === 5 && gpus[0]!.device.destroy()),
      DeviceLostError,
    );
    assertEquals(executor.isReady, false);
    assertEquals(states, [false]);
    isBack.resolve();
    // Later requests wait for the device instead of failing.
    assertEquals(await generate(engine), expected);
    assertEquals(executor.isReady, true);
    assertEquals(states, [false, true]);
    assertEquals(gpus.length, 2);
    assertEquals(engine.stats().openSessions, 0);
    engine.checkPages();
  },
);

testWithGpu(
  "a device that is lost between requests is replaced, and the next request says so",
  async () => {
    const { engine, gpus, states, isBack } = await openEngine(0);
    await using _ = engine;
    const expected = await generate(engine);
    gpus[0]!.device.destroy();
    await gpus[0]!.lost;
    assertEquals(states, [false]);
    isBack.resolve();
    // What the engine remembers of the old device must not be taken for what is on the new one.
    await assertRejects(() => generate(engine), DeviceLostError);
    assertEquals(await generate(engine), expected);
    assertEquals(states, [false, true]);
  },
);
