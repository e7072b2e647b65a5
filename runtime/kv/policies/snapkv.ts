/** snapkv: what the end of the prompt attends to. */
import { observedFrom, observedScores } from "./_observed.ts";
import { promptParams, scored } from "./_scored.ts";

/**
 * Source: Li et al. 2024, https://arxiv.org/abs/2404.14469, section 4: attention of the last `window` rows of
 * the prompt, smoothed over five neighbours; the prompt is compressed once and what follows is kept.
 * Differs: scores are added up over the query heads of a KV head before choosing, so that memory is
 * freed under grouped queries.
 */
export const snapkv = scored({
  name: "snapkv",
  source: "https://arxiv.org/abs/2404.14469",
  summary: "Prompt tokens that its last tokens attend to, per KV head; once, at the prompt's end",
  granularity: "kv-head",
  signals: ["attention-sum"],
  promptOnly: true,
  params: promptParams,
  recordFrom: observedFrom,
  score: observedScores,
});
