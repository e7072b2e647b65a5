/** pyramidkv: SnapKV with more tokens in low layers and fewer in high ones. */
import { observedFrom, observedScores } from "./_observed.ts";
import { promptParams, scored } from "./_scored.ts";

const BETA = 20;

/**
 * Tokens per layer, the window included: an arithmetic row from `2b - b/20` down to `b/20` around the
 * mean `b` beyond the window. Falls back to `budget` in every layer where the row would leave
 * [window, prompt - window], as the authors' code does.
 *
 * @param prompt tokens of the prompt
 */
export function pyramidBudget(
  budget: number,
  layer: number,
  layers: number,
  window: number,
  prompt: number,
): number {
  const mean = budget - window, room = prompt - window;
  let least = mean / BETA, most = 2 * mean - least;
  if (most > room) [most, least] = [room, 2 * mean - room];
  if (!(room >= most && most >= least && least >= window) || layers === 1) return budget;
  return window + Math.round(most - layer * (most - least) / (layers - 1));
}

/**
 * Source: Cai et al. 2024, https://arxiv.org/abs/2406.02069, section 4.2, and its code for the bounds.
 * Differs as snapkv.ts does.
 */
export const pyramidkv = scored({
  name: "pyramidkv",
  source: "https://arxiv.org/abs/2406.02069",
  summary: "As snapkv, with larger budgets in low layers than in high ones",
  granularity: "kv-head",
  signals: ["attention-sum"],
  promptOnly: true,
  params: promptParams,
  recordFrom: observedFrom,
  budget: (budget, { group, model, params, view }) =>
    pyramidBudget(budget, group.layers[0], model.layout.layers, params.window, view.promptLength),
  score: observedScores,
});
