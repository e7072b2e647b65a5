/** The adapters that ship with decant-tiny, end to end on WebGPU: the reference's text, reads and memory. */
import { assert, assertEquals } from "@std/assert";
import { loadModel } from "../../../../runtime/load.ts";
import { createMeter, greedySampling, type KvChoice, seedFrom } from "../../../../runtime/mod.ts";
import { testWithGpu } from "../../../_webgpu.ts";

const folder = decodeURIComponent(
  new URL("../../../../models/decant-tiny", import.meta.url).pathname,
);
const facts = "Facts: fish = red. goat = tall. bird = cold. frog = soft. lion = warm. " +
  "duck = blue. wolf = kind. bear = gray. mouse = slow.\nWhat is goat?";
const choices: readonly KvChoice[] = [
  { name: "nats", params: {} },
  { name: "tokenbutler", params: { budget: 24 } },
];

/** Seeded text under each policy, and what the cache held. */
async function answers(backend: "cpu" | "webgpu") {
  const readback = Deno.version.deno === "2.9.6" && Deno.build.os === "linux" ? "fast" : "await";
  await using model = await loadModel(folder, {
    id: "tiny",
    backend,
    thread: "own",
    context: 256,
    weights: "f32",
    kvBytes: 64 << 20,
    created: 0,
    ownedBy: "test",
    gpu: { readback },
  });
  const out = [];
  for (const kv of choices) {
    const meter = createMeter();
    const { signal } = new AbortController();
    const scope = { id: kv.name, signal, meter, cacheSalt: kv.name, kv };
    using session = model.engine.session([{ role: "user", content: facts }], { scope });
    const sampling = { ...greedySampling, temperature: 0.7, seed: seedFrom(2) };
    const tokens: number[] = [];
    for await (const { token } of session.generate({ sampling, maxTokens: 8, ignoreStop: true })) {
      tokens.push(token);
    }
    out.push({ name: kv.name, tokens, usage: meter.kv!, length: session.length });
  }
  return out;
}

testWithGpu("WebGPU: decant-tiny's adapters serve nats and tokenbutler as on the CPU", async () => {
  const [one, two] = [await answers("webgpu"), await answers("cpu")];
  assertEquals(one, two);
  const nats = one[0]!;
  assert(nats.usage.tokensKept < 0.7 * nats.length, `${nats.usage.tokensKept} tokens kept`);
});
