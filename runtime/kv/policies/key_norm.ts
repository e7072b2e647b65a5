/** key-norm: tokens with the shortest keys. */
import { budgetParams, scored } from "./_scored.ts";

/** Source: Devoto et al. 2024, https://arxiv.org/abs/2406.11430: short keys tend to receive attention. */
export const keyNorm = scored({
  name: "key-norm",
  source: "https://arxiv.org/abs/2406.11430",
  summary: "Tokens with the shortest keys, per KV head; looks at no queries",
  granularity: "kv-head",
  signals: ["key-norm"],
  params: budgetParams,
  score: ({ group }) => group.signal("key-norm").map((norm) => -norm),
});
