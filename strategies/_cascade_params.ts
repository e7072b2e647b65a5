/** Parameters of `cascade`, and the models it takes. */
import * as z from "zod";
import { ruleNames } from "./_cascade_rule.ts";
import type { StrategyContext } from "./strategy.ts";

const threshold = z.number().min(-1e6).max(1e6);

/** Unknown and out-of-range ones are refused. */
export const params = z.strictObject({
  models: z.int().min(2).max(4).default(2)
    .describe("models in the chain: roles small, middle, middle2, large"),
  rule: z.enum(ruleNames).default("quantile")
    .describe("what an answer is judged by; learned and router need a calibration"),
  alpha_q: z.number().min(0).max(1).default(0)
    .describe("quantile: its level; 0 = the least likely token"),
  threshold: z.union([
    z.literal("calibrated"),
    threshold,
    z.array(threshold).min(1).max(3),
  ]).default("calibrated")
    .describe(
      "answers with a score below it, in nats, are deferred; one for all links or one each",
    ),
  calibration: z.string().regex(/^[\w.-]{0,64}$/).default("")
    .describe("name of a calibration in the configuration"),
  defer_rate: z.union([z.literal("calibrated"), z.number().min(0).max(1)]).default("calibrated")
    .describe("share of the calibration's prompts to defer, instead of what it recommends"),
  small_decoding: z.enum(["greedy", "request"]).default("greedy")
    .describe("how all but the last model decode; request = as the request says"),
  early_stop: z.boolean().default(true)
    .describe("end an answer as soon as its score can no longer pass"),
});

/** Parameters of a cascade. */
export type CascadeParams = z.output<typeof params>;

/** What the models in the chain must be able to do. */
export const needs = { large: ["generate"], small: ["generate"] } as const;
/** Of models between the smallest and the largest. */
export const optionalNeeds = { middle: ["generate"], middle2: ["generate"] } as const;

/** What a request gives it. */
export type CascadeContext = StrategyContext<CascadeParams, typeof needs, typeof optionalNeeds>;
