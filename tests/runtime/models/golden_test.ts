/** Against Hugging Face transformers; see tests/golden/make_logits.py. */
import { assert, assertEquals } from "@std/assert";
import { createLocalExecutor } from "../../../runtime/engine/local_executor.ts";
import type { WeightSource } from "../../../runtime/formats/weights.ts";
import {
  configFromGguf,
  configFromJson,
  loadDecoder,
  type ModelConfig,
  usableContext,
} from "../../../runtime/models/mod.ts";
import type { Want } from "../../../runtime/engine/executor.ts";
import { backends, type TestedBackend } from "../../_backends.ts";
import { hashedWeights } from "../../fakes/hashed_weights.ts";
import { rowsOf, Sequence } from "../../fakes/sequence.ts";
import golden from "../../golden/logits.json" with { type: "json" };
import { ggufOf } from "./_gguf_of.ts";

interface Case {
  readonly config: string;
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  readonly tokens: readonly number[];
  readonly positions: readonly number[];
  readonly logits: readonly (readonly number[])[];
  /** By layer, of the last token. */
  readonly hidden: readonly (readonly number[])[];
}
const cases: Readonly<Record<string, Case>> = golden.cases as Record<string, unknown> as Record<
  string,
  Case
>;

/**
 * Largest error on the reference backend relative to the largest value of a row. The reference keeps norms, softmax and
 * rotary angles in f32 and has six digits after the point; ours rounds every op's output to f32.
 */
const tolerance = 4e-6;

function assertRow(
  actual: Float32Array,
  expected: readonly number[],
  what: string,
  errorFactor: number,
): void {
  assertEquals(actual.length, expected.length, what);
  const size = Math.max(...expected.map(Math.abs));
  const error = Math.max(...expected.map((value, i) => Math.abs(value - actual[i]!)));
  assert(
    error <= errorFactor * tolerance * size,
    `${what}: off by ${error} where values reach ${size}`,
  );
}

/** Logits of all tokens, then hidden states of the last token for layers 0 and up. */
async function compute(
  config: ModelConfig,
  weights: WeightSource,
  tokens: readonly number[],
  chunks: readonly number[],
  { create }: TestedBackend,
): Promise<{ logits: Float32Array[]; hidden: Float32Array[] }> {
  using backend = create();
  await using executor = createLocalExecutor(loadDecoder(config, weights, backend), backend, {
    pages: 8,
    pageSize: 8,
    contextLength: Math.min(64, usableContext(config)),
  });
  const sequence = new Sequence(executor, Uint32Array.of(3, 0, 7, 1, 6, 2));
  const logits: Float32Array[] = [];
  let hidden: Float32Array[] = [];
  for (const length of chunks) {
    const states: Want[] = Array.from(
      { length: config.layers + 1 },
      (_, layer) => ({ kind: "hidden", layer, last: 1 }),
    );
    const part = tokens.slice(sequence.length, sequence.length + length);
    const answers = await sequence.run(part, [{ kind: "logits", last: length }, ...states]);
    logits.push(...rowsOf(answers[0]));
    hidden = answers.slice(1).map((answer) => rowsOf(answer)[0]!);
  }
  return { logits, hidden };
}

function assertCase(
  { positions, logits, hidden }: Case,
  actual: { logits: Float32Array[]; hidden: Float32Array[] },
  { errorFactor }: TestedBackend,
): void {
  for (const [i, position] of positions.entries()) {
    assertRow(actual.logits[position]!, logits[i]!, `logits at ${position}`, errorFactor);
  }
  assertEquals(actual.hidden.length, hidden.length);
  for (const [layer, state] of hidden.entries()) {
    assertRow(actual.hidden[layer]!, state, `hidden state after layer ${layer}`, errorFactor);
  }
}

for (const backend of backends) {
  for (const [name, golden] of Object.entries(cases)) registerCase(name, golden, backend);
}

function registerCase(name: string, golden: Case, backend: TestedBackend): void {
  const { tokens, shapes } = golden;

  Deno.test(`loadDecoder() on ${backend.name} reproduces transformers' logits: ${name}`, async () => {
    const config = configFromJson(golden.config);
    const run = (chunks: readonly number[]) =>
      compute(config, hashedWeights(shapes), tokens, chunks, backend);
    const whole = await run([tokens.length]);
    assertCase(golden, whole, backend);
    const chunked = await run([1, 12, 1, 1, 20, 5]);
    assertEquals(chunked, whole, "chunks of a prompt change nothing, to the bit");
  });

  Deno.test(`loadDecoder() on ${backend.name} reproduces them from a GGUF file: ${name}`, async () => {
    using gguf = ggufOf(configFromJson(golden.config), hashedWeights(shapes));
    const config = configFromGguf(gguf.metadata, gguf);
    const actual = await compute(config, gguf, tokens, [tokens.length], backend);
    assertCase(golden, actual, backend);
  });
}
