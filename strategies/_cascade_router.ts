/**
 * A router: whether the large model should answer, from the prompt alone. A linear model over hashed
 * words and pairs of words.
 *
 * Source: the idea of Ong et al. 2024, "RouteLLM", https://arxiv.org/abs/2406.18665. Differs: no
 * embeddings, so that it needs no further model; it estimates how much better the large answer is.
 */
import * as z from "zod";

/** Number of hashed features. */
export const routerBuckets = 512;

/** A router as it is stored. */
export const routerSchema = z.strictObject({
  weights: z.array(z.number().min(-1e6).max(1e6)).length(routerBuckets),
  bias: z.number().min(-1e6).max(1e6),
});

/** A router. */
export type Router = z.output<typeof routerSchema>;

/** Longest part of a prompt that is looked at, in characters. */
const most = 8192;

/** Hashed features of a prompt, of length 1: bucket -> value. */
export function promptFeatures(text: string): ReadonlyMap<number, number> {
  const words = text.slice(0, most).toLowerCase().match(/\p{L}+|\p{N}|[^\s\p{L}\p{N}]/gu) ?? [];
  const counts = new Map<number, number>();
  const add = (key: string) => {
    const bucket = hash(key) % routerBuckets;
    counts.set(bucket, (counts.get(bucket) ?? 0) + 1);
  };
  words.forEach((word, i) => {
    // Digits differ from prompt to prompt; that there is one is what matters.
    const name = /\p{N}/u.test(word) ? "0" : word;
    add(name);
    if (i > 0) add(`${/\p{N}/u.test(words[i - 1]!) ? "0" : words[i - 1]} ${name}`);
  });
  add(`length ${Math.round(Math.log2(1 + words.length))}`);
  const norm = Math.hypot(...counts.values());
  return new Map([...counts].map(([bucket, count]) => [bucket, count / norm]));
}

/** Estimated gain of the large model's answer. */
export function routerScore({ weights, bias }: Router, text: string): number {
  let sum = bias;
  for (const [bucket, value] of promptFeatures(text)) sum += weights[bucket]! * value;
  return sum;
}

/** FNV-1a, 32 bits. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return (h ^ (h >>> 15)) >>> 0;
}
