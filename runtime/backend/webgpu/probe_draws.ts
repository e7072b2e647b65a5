/** The part of the probe that draws: the device's tokens must be the host's, seed by seed. */
import { createRng, seedFrom } from "../../rng.ts";
import { greedySampling, sampleRow, type SamplingParams } from "../../sampling.ts";
import type { Backend, DrawSpec } from "../backend.ts";

const VOCAB = 700, ROWS = 3;

const ways: readonly Partial<SamplingParams>[] = [
  { temperature: 0 },
  {},
  { temperature: 0.7, topK: 9 },
  { topP: 0.8 },
  { minP: 0.1, topK: 50, topP: 0.95 },
  { temperature: 1.3, repetitionPenalty: 1.2, presencePenalty: 0.3 },
];

/**
 * Draws in several ways from made-up logits.
 *
 * @returns what is wrong, undefined if nothing is, or if the backend does not draw
 */
export async function probeDraws(backend: Backend): Promise<string | undefined> {
  const rng = createRng(seedFrom(11));
  const logits = Float32Array.from({ length: ROWS * VOCAB }, () => 9 * (rng.next() - 0.5));
  const draws = ways.flatMap((way, w) =>
    Array.from({ length: ROWS }, (_, row): DrawSpec => ({
      row,
      position: 5 + w,
      sampling: { ...greedySampling, temperature: 1, seed: seedFrom(w * ROWS + row), ...way },
      promptTokens: [1, 2, 3],
      completionTokens: [2, 2, 5],
    }))
  );
  if (!draws.every((draw) => backend.canDraw?.(draw, VOCAB))) return undefined;
  using x = backend.tensor("probe.logits", [ROWS, VOCAB], "f32", logits);
  using result = backend.record((ops) => ops.draw!(x, VOCAB, draws));
  const drawn = await backend.drawn!(result, draws);
  let decided = 0;
  for (const [i, draw] of draws.entries()) {
    const found = drawn[i];
    if (found === undefined) continue; // the host would draw here
    decided++;
    const row = logits.subarray(draw.row * VOCAB, (draw.row + 1) * VOCAB);
    const { token } = sampleRow(row, { ...draw, topLogprobs: 0 });
    if (found.token !== token) return `a draw is token ${found.token}, not ${token}`;
  }
  return 2 * decided >= draws.length ? undefined : `only ${decided} of ${draws.length} draws`;
}
