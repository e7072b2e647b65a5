/** How different the answers of one list are. */

/** Distinct n-grams over all n-grams of a list; 1 where there are none. */
export function distinctN(lists: readonly (readonly number[])[], n: number): number {
  const all = lists.flatMap((tokens) => ngrams(tokens, n));
  return all.length === 0 ? 1 : new Set(all).size / all.length;
}

/**
 * Mean BLEU of every answer against every other, in [0, 1]; low means different. 0 for one answer.
 *
 * Sentence BLEU over tokens, orders 1 to 4 as far as the answer has them; precisions above order 1
 * add one to both counts (Lin & Och 2004, section 4, "BLEU+1"), so that short answers count.
 */
export function pairwiseBleu(lists: readonly (readonly number[])[]): number {
  let sum = 0, pairs = 0;
  lists.forEach((a, i) =>
    lists.forEach((b, j) => {
      if (i === j) return;
      sum += bleu(a, b);
      pairs++;
    })
  );
  return pairs === 0 ? 0 : sum / pairs;
}

/** Sentence BLEU of a candidate against one reference. */
export function bleu(candidate: readonly number[], reference: readonly number[]): number {
  if (candidate.length === 0 || reference.length === 0) {
    return candidate.length === reference.length ? 1 : 0;
  }
  const orders = Math.min(4, candidate.length);
  let logs = 0;
  for (let n = 1; n <= orders; n++) {
    const own = counts(ngrams(candidate, n));
    const other = counts(ngrams(reference, n));
    let shared = 0;
    for (const [gram, count] of own) shared += Math.min(count, other.get(gram) ?? 0);
    const extra = n === 1 ? 0 : 1;
    logs += Math.log((shared + extra) / (candidate.length - n + 1 + extra));
  }
  const brevity = Math.min(0, 1 - reference.length / candidate.length);
  return Math.exp(brevity + logs / orders);
}

function ngrams(tokens: readonly number[], n: number): string[] {
  return Array.from(
    { length: Math.max(0, tokens.length - n + 1) },
    (_, i) => tokens.slice(i, i + n).join(),
  );
}

function counts(grams: readonly string[]): Map<string, number> {
  const found = new Map<string, number>();
  for (const gram of grams) found.set(gram, (found.get(gram) ?? 0) + 1);
  return found;
}
