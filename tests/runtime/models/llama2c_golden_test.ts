import { assert, assertEquals } from "@std/assert";
import { createLocalExecutor } from "../../../runtime/engine/local_executor.ts";
import { loadDecoder } from "../../../runtime/models/mod.ts";
import { backends, type TestedBackend } from "../../_backends.ts";
import { sharedData, testWithSharedData } from "../../_shared_data.ts";
import { readLlama2c } from "../../fakes/llama2c.ts";
import { greedyWant, rowsOf, Sequence, tokenOf } from "../../fakes/sequence.ts";

interface Golden {
  readonly models: Readonly<
    Record<
      string,
      readonly {
        readonly prompt: string;
        readonly prompt_ids: readonly number[];
        readonly last_prompt_logits_top5: readonly (readonly [token: number, logit: number])[];
        readonly greedy_ids: readonly number[];
      }[]
    >
  >;
}

/** Model file -> entry of golden-greedy.json it must reproduce. */
const files = {
  "stories260K/stories260K.bin": "stories260K/stories260K.bin",
  "stories260K/stories260K-v1.bin": "stories260K/stories260K.bin",
  "stories260K/stories260K-q8.bin": "stories260K/stories260K-q8.bin",
  "aidreams260K/aidreams260K.bin": "aidreams260K/aidreams260K.bin",
  "babyllama-tok105/model5000.bin": "babyllama-tok105/model5000.bin",
  "babyllama-tok361/model5000.bin": "babyllama-tok361/model5000.bin",
};

/**
 * Largest error of a logit on the reference backend. They are around 10 in size; five layers of f32 rounding add up to some
 * ten units in the last place, and the golden values have five digits after the point.
 */
const tolerance = 2e-5;

for (const backend of backends) {
  for (const [file, entry] of Object.entries(files)) {
    testWithSharedData(
      `llama() on ${backend.name} reproduces golden logits and greedy ids of ${file}`,
      () => reproduces(file, entry, backend),
    );
  }
}

async function reproduces(
  file: string,
  entry: string,
  { create, errorFactor }: TestedBackend,
): Promise<void> {
  const text = await Deno.readTextFile(sharedData("models/golden-greedy.json"));
  const golden: Golden = JSON.parse(text);
  const cases = golden.models[entry]!;
  assert(cases.length > 0);
  using backend = create();
  const { config, weights } = readLlama2c(await Deno.readFile(sharedData(`models/${file}`)));
  const { contextLength } = config;
  const pageSize = 16, pages = Math.ceil(contextLength / pageSize);
  await using executor = createLocalExecutor(loadDecoder(config, weights, backend), backend, {
    pages,
    pageSize,
    contextLength,
  });
  for (const { prompt, prompt_ids, last_prompt_logits_top5, greedy_ids } of cases) {
    const table = Uint32Array.from({ length: pages }, (_, i) => pages - 1 - i);
    const sequence = new Sequence(executor, table);
    const first = await sequence.run(prompt_ids, [greedyWant, { kind: "logits", last: 1 }]);
    const logits = rowsOf(first[1])[0]!;
    for (const [token, logit] of last_prompt_logits_top5) {
      const error = Math.abs(logits[token]! - logit);
      assert(error <= errorFactor * tolerance, `prompt ${JSON.stringify(prompt)}: off by ${error}`);
    }
    const ids = [tokenOf(first[0])];
    while (ids.length < greedy_ids.length) {
      ids.push(tokenOf((await sequence.run(ids.slice(-1), [greedyWant]))[0]));
    }
    assertEquals(ids, [...greedy_ids], `prompt ${JSON.stringify(prompt)}`);
  }
}
