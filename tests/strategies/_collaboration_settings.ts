/** Rules between models that are tested both by themselves and as they are executed. */
import { greedySampling, type SamplingParams } from "../../runtime/mod.ts";
import { type CascadeParams, params as schema } from "../../strategies/_collaboration_params.ts";
import { ruleOf } from "../../strategies/_collaboration_works.ts";
import type { Combination, DrawShape } from "../../strategies/_combine.ts";

/** The distributions as they are. */
export const plain: SamplingParams = { ...greedySampling, temperature: 1 };
export const shape: DrawShape = { sampling: plain, promptTokens: [], completionTokens: [] };

export function rule(options: Partial<CascadeParams>): Combination {
  return ruleOf(schema.parse(options));
}

/** A spread of rules; every kind and several settings. */
export const settings: readonly Partial<CascadeParams>[] = [
  { rule: "always" },
  { rule: "never" },
  { rule: "oracle" },
  { rule: "chow", alpha: 0.5 },
  { rule: "margin", margin: 0.1 },
  { rule: "diff", alpha: 0.05 },
  { rule: "opt", alpha: 0.4 },
  { rule: "token-v1", alpha: 0.2 },
  { rule: "token-v2", alpha: -0.1 },
  { rule: "token-v3", alpha: 0 },
  { rule: "token-v3", alpha: 0.6 },
  { rule: "mix", lambda: 0.3 },
  { rule: "contrast", beta: 0.5, plausibility: 0.5 },
  { rule: "contrast", beta: 1.5, plausibility: 0.1 },
  { rule: "proxy", strength: 0.8 },
];
