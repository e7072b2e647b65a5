/** Parameters of `speculative-cascade`, and which of them go together. */
import * as z from "zod";
import { StrategyParamError } from "./_errors.ts";

/** Name of the strategy. */
export const name = "speculative-cascade";

/** Unknown and out-of-range ones are refused. */
export const params = z.strictObject({
  rule: z.enum([
    "token-v3",
    "token-v2",
    "token-v1",
    "chow",
    "margin",
    "diff",
    "opt",
    "always",
    "never",
    "oracle",
    "mix",
    "contrast",
    "proxy",
  ]).default("token-v3").describe("who decides the next token, or how the laws become one"),
  alpha: z.number().min(-1000).max(1000).default(0.5)
    .describe(
      "larger = the small model more often; chow, token-v3: 0..1; diff, token-v1, v2: -1..1",
    ),
  margin: z.number().min(0).max(0.5).default(0.2)
    .describe("margin: the small model speaks where half its lead over its second token is this"),
  lambda: z.number().min(0).max(1).default(0.5).describe("mix: the small model's share"),
  beta: z.number().min(0).max(2).default(0.5)
    .describe("contrast: 0 = the small model, 1 = the large one, above 1 away from the small one"),
  plausibility: z.number().gt(0).max(1).default(0.1)
    .describe("contrast: keep tokens with this share of the large model's best probability"),
  strength: z.number().min(0).max(2).default(1)
    .describe("proxy: how much of what tuning did to the small model is done to the large one"),
  gamma: z.int().min(1).max(16).default(5)
    .describe("proposals per round; gated: deferrals that wait for one pass of the large model"),
  ahead: z.int().min(0).max(64).default(0)
    .describe(
      "gated: most tokens that wait for the large model's pass; 0 = it draws at each deferral",
    ),
  execution: z.enum(["auto", "step", "gated", "speculative"]).default("auto")
    .describe("which models run when; the output's law is the same"),
  bonus: z.enum(["alternate", "none"]).default("alternate")
    .describe(
      "speculative: the large model's token after a full round becomes a proposal, or is dropped",
    ),
  verify: z.enum(["ratio", "coupled"]).default("ratio")
    .describe(
      "keep proposals by probability, or by noise that makes a seed's tokens the same always",
    ),
});

/** Validated parameters. */
export type CascadeParams = z.output<typeof params>;
/** Rules that look at the small model alone. */
const ownRules = ["chow", "margin", "always", "never"] as const;
/** Name of one of them. */
export type OwnRule = typeof ownRules[number];

/** The rule, if it looks at the small model alone. */
export function ownRule(rule: CascadeParams["rule"]): OwnRule | undefined {
  return ownRules.find((own) => own === rule);
}

/** Whether the large model is only asked where the small one defers. */
export function isGated({ rule, execution }: CascadeParams): boolean {
  return execution === "gated" ||
    (execution === "auto" && ownRule(rule) !== undefined && rule !== "always");
}

/** Whether the large model draws tokens where the small one defers, and need not tell its laws. */
export function isDrawn(params: CascadeParams): boolean {
  return isGated(params) && params.ahead === 0;
}

/** @throws {StrategyParamError} for parameters that do not go together */
export function checkParams(params: CascadeParams): void {
  const { rule, alpha, execution, ahead } = params;
  const refuse = (param: string, detail: string): never => {
    throw new StrategyParamError(name, param, detail);
  };
  const isShare = rule === "chow" || rule === "token-v3";
  const isDifference = rule === "diff" || rule === "token-v1" || rule === "token-v2";
  if (isShare && (alpha < 0 || alpha > 1)) refuse("alpha", `${rule} takes 0 to 1, got ${alpha}`);
  if (isDifference && Math.abs(alpha) > 1) refuse("alpha", `${rule} takes -1 to 1, got ${alpha}`);
  if (execution === "gated" && !ownRule(rule)) {
    refuse("execution", `${rule} looks at the large model on every token: use step or speculative`);
  }
  if (ahead > 0 && !isGated(params)) {
    refuse("ahead", "only where the small model speaks until it defers: a gated execution");
  }
}
