/** h2o: tokens that have received most attention so far. */
import { budgetParams, scored } from "./_scored.ts";

/**
 * Source: Zhang et al. 2023 (Heavy-Hitter Oracle), https://arxiv.org/abs/2306.14048, section 4: attention
 * added up over all rows, and over the query heads of a KV head. `window` is its recent half. Differs:
 * sinks can be kept explicitly, and eviction takes place every `interval` tokens: 1 is the paper's rule, at
 * several times the cost of a step.
 */
export const h2o = scored({
  name: "h2o",
  source: "https://arxiv.org/abs/2306.14048",
  summary: "Tokens that have received most attention so far, per KV head",
  granularity: "kv-head",
  signals: ["attention-sum"],
  params: budgetParams,
  score: ({ group }) => group.signal("attention-sum"),
});
