/** Steps that run ahead of the host: the same tokens, sooner; guesses that were wrong leave no trace. */
import { assert, assertEquals } from "@std/assert";
import { createEngine, type Engine } from "../../../runtime/engine/engine.ts";
import { createLocalExecutor } from "../../../runtime/engine/local_executor.ts";
import { greedySampling, type SamplingParams, type TokenId } from "../../../runtime/mod.ts";
import { configFromJson, loadDecoder } from "../../../runtime/models/mod.ts";
import { seedFrom } from "../../../runtime/rng.ts";
import { fakeVocab } from "../../fakes/mod.ts";
import { hashedWeights } from "../../fakes/hashed_weights.ts";
import golden from "../../golden/logits.json" with { type: "json" };
import { createTestGpuBackend, testWithGpu } from "../../_webgpu.ts";

const { config, shapes } = golden.cases["qwen2-bias"];

/** An engine that reads back with or without running ahead, and how often a batch was guessed right. */
function open(readback: "ring" | "await") {
  const backend = createTestGpuBackend({ readback });
  const decoder = loadDecoder(configFromJson(config), hashedWeights(shapes), backend);
  const counts = { guessed: 0, computed: 0 };
  const record = backend.record.bind(backend);
  backend.record = (build) => {
    counts.computed++;
    return record(build);
  };
  const options = { pages: 64, pageSize: 16, contextLength: 128 };
  const executor = createLocalExecutor(decoder, backend, options);
  const pieces = Array.from(
    { length: executor.info.vocab - 7 },
    (_, i) => String.fromCodePoint(0x4e00 + i),
  );
  const engine = createEngine({ id: "test", vocab: fakeVocab({ pieces }), executor });
  return { engine, counts, backend };
}

async function generate(
  engine: Engine,
  prompt: readonly TokenId[],
  sampling: SamplingParams,
  maxTokens: number,
): Promise<TokenId[]> {
  using session = engine.session(prompt);
  const tokens: TokenId[] = [];
  for await (const { token } of session.generate({ sampling, maxTokens, ignoreStop: true })) {
    tokens.push(token);
  }
  return tokens;
}

const samplings: readonly SamplingParams[] = [
  greedySampling,
  { ...greedySampling, temperature: 1, seed: seedFrom(7) },
  { ...greedySampling, temperature: 0.7, topK: 6, topP: 0.9, seed: seedFrom(8) },
];

testWithGpu("tokens of a stream that runs ahead are those of one that does not", async () => {
  const runs = [];
  for (const readback of ["await", "ring"] as const) {
    const { engine, counts } = open(readback);
    await using _ = engine;
    const texts: TokenId[][] = [];
    for (const [i, sampling] of samplings.entries()) {
      texts.push(await generate(engine, [1, 2, 3 + i], sampling, 60));
    }
    runs.push({ texts, computed: counts.computed });
    engine.checkPages();
  }
  assertEquals(runs[1]!.texts, runs[0]!.texts);
  const [awaited, ahead] = runs.map(({ computed }) => computed);
  assert(ahead! < awaited! / 2, `${ahead} steps were computed on demand, ${awaited} in all`);
});

testWithGpu("streams that start, end and fork among others are as they are alone", async () => {
  const { engine } = open("ring");
  await using _ = engine;
  const jobs = Array.from({ length: 6 }, (_, i) => ({
    prompt: Array.from({ length: 3 + i }, (_, t) => (t * 13 + i) % 90),
    sampling: { ...samplings[i % 3]!, seed: seedFrom(i) },
    length: 5 + 7 * i,
  }));
  const run = ({ prompt, sampling, length }: typeof jobs[number]) =>
    generate(engine, prompt, sampling, length);
  const alone: TokenId[][] = [];
  for (const job of jobs) alone.push(await run(job));
  const together = await Promise.all(jobs.map(run));
  assertEquals(together, alone);
  // A fork in the middle of a stream, and the parent going on.
  using session = engine.session([5, 6, 7]);
  const options = { sampling: greedySampling, maxTokens: 40, ignoreStop: true };
  const parent: TokenId[] = [];
  let fork: TokenId[] = [];
  for await (const { token } of session.generate(options)) {
    parent.push(token);
    if (parent.length !== 9) continue;
    using branch = session.fork();
    branch.append([42]);
    for await (const { token } of branch.generate({ ...options, maxTokens: 12 })) fork.push(token);
  }
  assertEquals(parent, await generate(engine, [5, 6, 7], greedySampling, 40));
  fork = [...parent.slice(0, 9), 42, ...fork];
  const expected = await generate(engine, [5, 6, 7, ...fork.slice(0, 10)], greedySampling, 12);
  assertEquals(fork.slice(10), expected);
});
