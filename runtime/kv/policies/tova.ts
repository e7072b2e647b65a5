/** tova: tokens that the newest one attends to most. */
import { budgetParams, scored } from "./_scored.ts";

/**
 * Source: Oren et al. 2024 (Transformers are Multi-State RNNs), https://arxiv.org/abs/2401.06104, section 4:
 * drop what the current row, averaged over the heads of a layer, looks at least. Differs: sinks and
 * window are kept (0 and 1 come closest to the paper), and eviction takes place every `interval` tokens,
 * where 1 is the paper's rule, at several times the cost of a step.
 */
export const tova = scored({
  name: "tova",
  source: "https://arxiv.org/abs/2401.06104",
  summary: "Tokens that the newest token attends to most, per layer",
  granularity: "layer",
  signals: ["attention-last"],
  params: budgetParams,
  score: ({ group }) => group.signal("attention-last"),
});
