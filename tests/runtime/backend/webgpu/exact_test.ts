/**
 * Whole models against the CPU reference: logits in every weight format, and the same bits however
 * sequences are cut, batched and joined.
 */
import { assert, assertEquals } from "@std/assert";
import type { Backend } from "../../../../runtime/backend/backend.ts";
import { createCpuBackend } from "../../../../runtime/backend/cpu/mod.ts";
import { createLocalExecutor } from "../../../../runtime/engine/local_executor.ts";
import type { Executor, Row } from "../../../../runtime/engine/executor.ts";
import { configFromJson, loadDecoder, type WeightFormat } from "../../../../runtime/models/mod.ts";
import { hashedWeights } from "../../../fakes/hashed_weights.ts";
import { rowsOf, Sequence } from "../../../fakes/sequence.ts";
import golden from "../../../golden/logits.json" with { type: "json" };
import { createTestGpuBackend, testWithGpu } from "../../../_webgpu.ts";

type Case = {
  readonly config: string;
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  readonly tokens: readonly number[];
};
/** Random weights in the shapes of Qwen2, Qwen3 and Llama 3. */
const names = ["qwen2-bias", "qwen3-qk-norm", "llama3-rope"] as const;
const cases = golden.cases as unknown as Readonly<Record<string, Case>>;

function open(name: string, backend: Backend, weights: WeightFormat): Executor {
  const { config, shapes } = cases[name]!;
  const decoder = loadDecoder(configFromJson(config), hashedWeights(shapes), backend, { weights });
  return createLocalExecutor(decoder, backend, { pages: 64, pageSize: 8, contextLength: 64 });
}

const pagesFrom = (first: number) => Uint32Array.from({ length: 6 }, (_, i) => first + 5 - i);

/** Logits of all tokens, computed in chunks. */
async function logitsOf(executor: Executor, tokens: readonly number[], chunks: readonly number[]) {
  const sequence = new Sequence(executor, pagesFrom(0));
  const rows: Float32Array[] = [];
  for (const length of chunks) {
    const part = tokens.slice(sequence.length, sequence.length + length);
    rows.push(...rowsOf((await sequence.run(part, [{ kind: "logits", last: length }]))[0]));
  }
  return rows;
}

/** Largest error of a row, relative to its largest value. */
function errorOf(actual: Float32Array, expected: Float32Array): number {
  const size = Math.max(...expected.map(Math.abs));
  return Math.max(...expected.map((value, i) => Math.abs(value - actual[i]!))) / size;
}

for (const name of names) {
  const { tokens } = cases[name]!;

  testWithGpu(`logits of ${name} in f32 are within 1e-4 of the reference`, async () => {
    using cpu = createCpuBackend();
    using gpu = createTestGpuBackend();
    await using expected = open(name, cpu, "f32");
    await using actual = open(name, gpu, "f32");
    const whole = [tokens.length];
    const rows = await logitsOf(actual, tokens, whole);
    for (const [i, row] of (await logitsOf(expected, tokens, whole)).entries()) {
      assert(errorOf(rows[i]!, row) <= 1e-4, `row ${i} is off by ${errorOf(rows[i]!, row)}`);
    }
  });

  testWithGpu(`joining ops of ${name} saves dispatches and changes no bit`, async () => {
    const results = await Promise.all([true, false].map(async (fuses) => {
      using backend = createTestGpuBackend({ fuses });
      await using executor = open(name, backend, "f32");
      const rows = await logitsOf(executor, tokens, [7, 1, 1]);
      return { rows, dispatches: backend.lastStep.length };
    }));
    assertEquals(results[0]!.rows, results[1]!.rows);
    assert(results[0]!.dispatches < results[1]!.dispatches);
  });

  testWithGpu(
    `rows of ${name} are the same to the bit in batches of 1 to 8 and in chunks`,
    async () => {
      for (const weights of ["f32", "q8", "q4"] as const) {
        using backend = createTestGpuBackend();
        await using executor = open(name, backend, weights);
        const alone = await logitsOf(executor, tokens, [tokens.length]);
        assertEquals(await logitsOf(executor, tokens, [1, 12, 1, tokens.length - 14]), alone);
        for (let batch = 2; batch <= 8; batch++) {
          const last = tokens.length - 1;
          const sequences = Array.from(
            { length: batch },
            (_, b) => new Sequence(executor, pagesFrom(6 * (b + 1))),
          );
          for (const one of sequences) await one.run(tokens.slice(0, last), []);
          const rows: Row[] = sequences.map((one) =>
            one.row([tokens[last]!], [{ kind: "logits", last: 1 }])
          );
          const { answers } = await executor.execute({ step: 0, edits: [], rows });
          for (const row of answers) assertEquals(rowsOf(row[0])[0], alone[last]);
        }
      }
    },
  );
}
