/** What quantised weights cost the embedded model, in perplexity on text it was not trained on. */
import { assert } from "@std/assert";
import { fileURLToPath } from "node:url";
import { EVALUATION } from "../../models/recipe/tasks/mod.ts";
import { taskRng } from "../../models/recipe/rng.ts";
import { createWasmBackend } from "../../runtime/backend/wasm/mod.ts";
import { createLocalExecutor } from "../../runtime/engine/local_executor.ts";
import type { Executor } from "../../runtime/engine/executor.ts";
import { openModelFiles } from "../../runtime/model_files.ts";
import { loadDecoder, type WeightFormat } from "../../runtime/models/mod.ts";
import { rowsOf, Sequence } from "../fakes/sequence.ts";

const SAMPLES_PER_TASK = 6;
const PAGES = 64, PAGE_SIZE = 16;

interface Text {
  readonly prompt: string;
  readonly answer: string;
}

/** Held-out questions with their answers, as the model sees them. */
function texts(): Text[] {
  return EVALUATION.flatMap((task) => {
    const rng = taskRng(`perplexity ${task.name}`);
    return Array.from({ length: SAMPLES_PER_TASK }, () => {
      const [user, assistant] = task.generate(rng, "test").messages;
      return {
        prompt: `<|im_start|>user\n${user.content}<|im_end|>\n<|im_start|>assistant\n`,
        answer: `${assistant.content}<|im_end|>`,
      };
    });
  });
}

/** Sum of -ln p over the answer; questions are no text that the model was taught to write. */
async function surprise(
  executor: Executor,
  prompt: readonly number[],
  answer: readonly number[],
): Promise<number> {
  const sequence = new Sequence(executor, Uint32Array.from({ length: PAGES }, (_, i) => i));
  const last = answer.length + 1;
  const [answers] = await sequence.run([...prompt, ...answer], [{ kind: "logits", last }]);
  const rows = rowsOf(answers!);
  let sum = 0;
  for (const [i, id] of answer.entries()) {
    const row = rows[i]!;
    const best = Math.max(...row);
    const total = row.reduce((all, logit) => all + Math.exp(logit - best), 0);
    sum += best + Math.log(total) - row[id]!;
  }
  return sum;
}

async function perplexity(format: WeightFormat): Promise<number> {
  const path = fileURLToPath(new URL("../../models/decant-tiny", import.meta.url));
  const { config, vocab, weights } = await openModelFiles(path);
  using source = weights;
  using backend = createWasmBackend();
  const decoder = loadDecoder(config, source, backend, { weights: format });
  await using executor = createLocalExecutor(decoder, backend, {
    pages: PAGES,
    pageSize: PAGE_SIZE,
    contextLength: PAGES * PAGE_SIZE,
  });
  let sum = 0, count = 0;
  for (const { prompt, answer } of texts()) {
    const ids = vocab.encode(answer, { special: true });
    sum += await surprise(executor, vocab.encode(prompt, { special: true }), ids);
    count += ids.length;
  }
  return Math.exp(sum / count);
}

Deno.test("decant-tiny: q8 and q4 weights keep perplexity within 0.3 % and 2 % of f32", async () => {
  const exact = await perplexity("f32");
  for (const [format, most] of [["q8", 0.003], ["q4", 0.02]] as const) {
    const change = await perplexity(format) / exact - 1;
    assert(Math.abs(change) <= most, `${format}: ${(100 * change).toFixed(2)} % from ${exact}`);
    assert(change !== 0, "the weights were quantised");
  }
});
