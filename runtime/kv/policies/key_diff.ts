/** key-diff: tokens with the most unusual keys. */
import { budgetParams, scored } from "./_scored.ts";

/**
 * Source: Park et al. 2025 (KeyDiff), https://arxiv.org/abs/2504.15364: the lower the cosine of a key and the
 * mean direction of all keys, the rather it is kept.
 */
export const keyDiff = scored({
  name: "key-diff",
  source: "https://arxiv.org/abs/2504.15364",
  summary: "Tokens whose keys differ most from the others, per KV head; looks at no queries",
  granularity: "kv-head",
  signals: ["key"],
  params: budgetParams,
  score: ({ group, count, model }) => unusualness(group.signal("key"), count, model.layout.headDim),
});

/** Minus the cosine of each of `count` keys of `width` numbers and their mean direction. */
export function unusualness(keys: Float32Array, count: number, width: number): Float64Array {
  const mean = new Float64Array(width), norms = new Float64Array(count);
  for (let slot = 0; slot < count; slot++) {
    let square = 0;
    for (let d = 0; d < width; d++) square += keys[slot * width + d]! ** 2;
    norms[slot] = Math.sqrt(square) || 1;
    for (let d = 0; d < width; d++) mean[d]! += keys[slot * width + d]! / norms[slot]!;
  }
  const length = Math.hypot(...mean) || 1;
  return norms.map((norm, slot) => {
    let dot = 0;
    for (let d = 0; d < width; d++) dot += keys[slot * width + d]! * mean[d]!;
    return -dot / (norm * length);
  });
}
