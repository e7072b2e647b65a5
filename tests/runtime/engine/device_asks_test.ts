/** Asks that a device answers itself: the reference's answers, and no rows of logits come back for them. */
import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import type { Backend } from "../../../runtime/backend/backend.ts";
import { createCpuBackend } from "../../../runtime/backend/cpu/mod.ts";
import { createEngine } from "../../../runtime/engine/engine.ts";
import { createLocalExecutor } from "../../../runtime/engine/local_executor.ts";
import { greedySampling, seedFrom, type Session } from "../../../runtime/mod.ts";
import { loadDecoder } from "../../../runtime/models/mod.ts";
import { createTestGpuBackend, testWithGpu } from "../../_webgpu.ts";
import { hashedWeights, llamaShapes, tinyConfig } from "../../fakes/hashed_weights.ts";
import { fakeVocab } from "../../fakes/mod.ts";

const config = { ...tinyConfig, vocab: 300 }, vocab = 296;

/** An engine, and how many numbers it reads from the device. */
function open(backend: Backend) {
  const decoder = loadDecoder(config, hashedWeights(llamaShapes(config)), backend);
  const counts = { read: 0 }, read = backend.read.bind(backend);
  backend.read = async (tensor) => {
    const values = await read(tensor);
    counts.read += values.length;
    return values;
  };
  const options = { pages: 40, pageSize: 8, contextLength: 64, vocab };
  const executor = createLocalExecutor(decoder, backend, options);
  const pieces = Array.from({ length: vocab }, (_, i) => String.fromCodePoint(0x4e00 + i));
  const engine = createEngine({ id: "tiny", vocab: fakeVocab({ pieces }), executor });
  return { engine, counts };
}

const sampling = { ...greedySampling, temperature: 1, seed: seedFrom(5) };
const mask = Uint32Array.from({ length: 10 }, (_, i) => i === 9 ? 255 : 0x5a5a5a5a);

/** Asks and how many numbers they may read: rows of logits have 300. */
const asks: Readonly<
  Record<string, readonly [most: number, ask: (s: Session) => Promise<unknown>]>
> = {
  "topk of one row": [160, (s) => s.topk(5)],
  "topk of four rows": [640, (s) => s.topk(64, { last: 4 })],
  entropy: [80, (s) => s.entropy({ last: 3 })],
  score: [100, (s) => s.score({ last: 3 })],
  "a sample": [30, (s) => s.sample({ sampling })],
  "a sample with its rivals": [190, (s) => s.sample({ sampling, topLogprobs: 7 })],
  "a sample under a mask and its mass": [30, (s) => s.sample({ sampling, mask, mass: true })],
  "all at once": [
    600,
    (s) => Promise.all([s.topk(3), s.entropy(), s.score({ last: 2 }), s.sample({ sampling })]),
  ],
  "topk beyond what the device names": [300, (s) => s.topk(70)],
  "logits beside topk": [470, (s) => Promise.all([s.logits(), s.topk(3, { last: 1 })])],
};

for (const [name, [most, ask]] of Object.entries(asks)) {
  testWithGpu(`${name}: the reference's answer from ${most} numbers`, async () => {
    const gpu = open(createTestGpuBackend()), cpu = open(createCpuBackend());
    await using one = gpu.engine;
    await using two = cpu.engine;
    const prompt = Array.from({ length: 11 }, (_, i) => (37 * i + 5) % vocab);
    using session = one.session(prompt), same = two.session(prompt);
    assertClose(await ask(session), await ask(same));
    assert(gpu.counts.read <= most, `${gpu.counts.read} numbers were read`);
  });
}

testWithGpu(
  "asks that cannot be answered fail alone, others of the step are answered",
  async () => {
    const { engine } = open(createTestGpuBackend());
    await using one = engine;
    using session = one.session([1, 2, 3]), other = session.fork();
    const none = new Uint32Array(10);
    const [good] = await Promise.all([
      other.topk(2),
      assertRejects(() => session.sample({ sampling, mask: none }), RangeError),
    ]);
    assertEquals(good[0]!.candidates.length, 2);
  },
);

/** Equal but for the rounding of f32. */
function assertClose(actual: unknown, expected: unknown): void {
  if (typeof expected === "number") return assertAlmostEquals(actual as number, expected, 1e-5);
  if (typeof expected !== "object" || expected === null) return assertEquals(actual, expected);
  const keys = Object.keys(expected);
  assertEquals(Object.keys(actual as object).sort(), keys.sort());
  for (const key of keys) {
    assertClose(
      (actual as Record<string, unknown>)[key],
      (expected as Record<string, unknown>)[key],
    );
  }
}
