/** Policies that only serve as controls: a random choice, and the best choice there could be. */
import * as z from "zod";
import { budgetShape } from "../../runtime/kv/policies/_params.ts";
import { scored } from "../../runtime/kv/policies/_scored.ts";
import { getPolicy } from "../../runtime/kv/policies/mod.ts";
import { quest } from "../../runtime/kv/policies/quest.ts";
import type { KvPolicy } from "../../runtime/kv/policy.ts";
import { createRng, seedFrom } from "../../runtime/mod.ts";

/** Keeps a random sample beside sinks and window: what every ranking has to beat. */
export const random = scored({
  name: "random",
  source: "control",
  summary: "A random sample",
  granularity: "kv-head",
  signals: [],
  params: z.strictObject({ ...budgetShape, seed: z.int().default(0) }),
  score({ params, group, count }) {
    const rng = createRng(seedFrom(1 + params.seed + 97 * group.layers[0] + 7 * group.kvHeads[0]));
    return Float64Array.from({ length: count }, () => rng.next());
  },
});

/** Reads what has the largest scores: what read sparsity could reach at best. */
export const oracle: KvPolicy = {
  ...quest as KvPolicy,
  name: "oracle",
  source: "control",
  summary: "Reads the tokens with the largest scores",
  check: () => {},
  reads: (params) => ({ ...quest.reads!(quest.params.parse(params))!, score: "oracle" }),
};

/** Any policy, controls included. */
export function findPolicy(name: string): KvPolicy {
  if (name === "random") return random as KvPolicy;
  return name === "oracle" ? oracle : getPolicy(name);
}
