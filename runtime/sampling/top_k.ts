/** The k most likely tokens of a row. */
import type { Candidate, TopK } from "../model.ts";
import { rowStats } from "./rows.ts";

/**
 * Ids of the k largest values, largest first; ties by lower id.
 *
 * A heap of k with the worst on top: one comparison per value that is not among them.
 *
 * @param k clipped to the number of values, as there are no more
 */
export function largest(values: Float32Array | Float64Array, k: number): Uint32Array {
  const size = Math.min(Math.max(0, Math.floor(k)), values.length);
  const heap = new Uint32Array(size);
  if (size === 0) return heap;
  for (let i = 0; i < size; i++) heap[i] = i;
  for (let i = (size >> 1) - 1; i >= 0; i--) sink(heap, values, i, size);
  let worst = values[heap[0]!]!;
  for (let i = size; i < values.length; i++) {
    if (values[i]! <= worst) continue; // an equal value has the higher id
    heap[0] = i;
    sink(heap, values, 0, size);
    worst = values[heap[0]!]!;
  }
  for (let end = size - 1; end > 0; end--) { // heap sort: the worst goes to the end
    const last = heap[end]!;
    heap[end] = heap[0]!;
    heap[0] = last;
    sink(heap, values, 0, end);
  }
  return heap;
}

function sink(
  heap: Uint32Array,
  values: Float32Array | Float64Array,
  start: number,
  size: number,
): void {
  const id = heap[start]!;
  let at = start;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= size) break;
    if (child + 1 < size && isWorse(values, heap[child + 1]!, heap[child]!)) child++;
    if (!isWorse(values, heap[child]!, id)) break;
    heap[at] = heap[child]!;
    at = child;
  }
  heap[at] = id;
}

function isWorse(values: Float32Array | Float64Array, a: number, b: number): boolean {
  const x = values[a]!, y = values[b]!;
  return x < y || (x === y && a > b);
}

/** Raw log-probabilities of the k most likely tokens, best first. */
export function topCandidates(logits: Float32Array, k: number, logNormalizer: number): Candidate[] {
  return Array.from(
    largest(logits, k),
    (token) => ({ token, logprob: logits[token]! - logNormalizer }),
  );
}

/**
 * The k most likely tokens and the probability they leave to the others.
 *
 * @param k fewer come back only if the vocabulary is smaller
 * @throws {EngineError} if the row holds no distribution
 */
export function topK(logits: Float32Array, k: number): TopK {
  const { logNormalizer } = rowStats(logits);
  return withRest(topCandidates(logits, k, logNormalizer), logits.length);
}

/** The most likely of `vocab` tokens, and the probability they leave to the others. */
export function withRest(candidates: readonly Candidate[], vocab: number): TopK {
  if (candidates.length === vocab) return { candidates, rest: 0 };
  let covered = 0;
  for (const { logprob } of candidates) covered += Math.exp(logprob);
  return { candidates, rest: Math.max(0, 1 - covered) };
}
