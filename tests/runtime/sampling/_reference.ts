/** The warpers once more, written for reading: plain arrays, sorting, no shortcuts. */
import type { DrawContext } from "../../../runtime/sampling.ts";

interface Entry {
  readonly token: number;
  readonly p: number;
}

/** Exact probabilities of a draw, from the definitions of the papers. */
export function referenceDistribution(logits: readonly number[], context: DrawContext): number[] {
  const { sampling: s } = context;
  const adjusted = referenceAdjusted(logits, context);
  let kept = softmax(adjusted.map((x) => x / s.temperature)).map((p, token) => ({ token, p }))
    .filter(({ p }) => p > 0);
  if (s.topK > 0) kept = prefix(kept, (e) => e.p, s.topK, () => 1);
  kept = normalised(kept);
  if (s.topP < 1) kept = prefix(kept, (e) => e.p, s.topP, (e) => e.p);
  kept = normalised(kept);
  const best = Math.max(...kept.map(({ p }) => p));
  kept = normalised(kept.filter(({ p }) => p >= s.minP * best));
  if (s.typicalP < 1) {
    const entropy = -kept.reduce((sum, { p }) => sum + p * Math.log(p), 0);
    kept = prefix(kept, (e) => -Math.abs(-Math.log(e.p) - entropy), s.typicalP, (e) => e.p);
  }
  const out = logits.map(() => 0);
  for (const { token, p } of normalised(kept)) out[token] = p;
  return out;
}

/** Bias, repetition, frequency and presence penalties, mask. */
export function referenceAdjusted(logits: readonly number[], context: DrawContext): number[] {
  const { sampling: s, mask, promptTokens, completionTokens } = context;
  return logits.map((logit, token) => {
    for (const [biased, bias] of s.logitBias) if (biased === token) logit += bias;
    const count = completionTokens.filter((seen) => seen === token).length;
    if (count > 0 || promptTokens.includes(token)) {
      logit = logit > 0 ? logit / s.repetitionPenalty : logit * s.repetitionPenalty;
    }
    logit -= count * s.frequencyPenalty + (count > 0 ? s.presencePenalty : 0);
    const isAllowed = !mask || (mask[token >> 5]! >> (token % 32) & 1) === 1;
    return isAllowed ? logit : -Infinity;
  });
}

/** Best entries by `key` until their masses reach `target`, with all that tie with the last one. */
function prefix(
  entries: readonly Entry[],
  key: (entry: Entry) => number,
  target: number,
  mass: (entry: Entry) => number,
): Entry[] {
  const sorted = [...entries].sort((a, b) => key(b) - key(a));
  let sum = 0;
  const last = sorted.find((entry) => (sum += mass(entry)) >= target - 1e-12) ?? sorted.at(-1)!;
  return entries.filter((entry) => key(entry) >= key(last) - 1e-12);
}

function normalised(entries: readonly Entry[]): Entry[] {
  const sum = entries.reduce((total, { p }) => total + p, 0);
  return entries.map(({ token, p }) => ({ token, p: p / sum }));
}

/** Probabilities of logits. */
export function softmax(logits: readonly number[]): number[] {
  const max = Math.max(...logits);
  const weights = logits.map((x) => Math.exp(x - max));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => w / sum);
}
