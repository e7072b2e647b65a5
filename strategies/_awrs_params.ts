/** Parameters of `awrs`, and which of them go together. */
import * as z from "zod";
import { StrategyParamError } from "./_errors.ts";

/** Name of the strategy. */
export const name = "awrs";

/** Unknown and out-of-range ones are refused. */
export const params = z.strictObject({
  n_particles: z.int().min(1).max(64).default(1)
    .describe("particles per choice; 1 = each token as a mask would draw it, no resampling"),
  ess_threshold: z.number().min(0).max(1).default(0.5)
    .describe("resample when the effective sample size is below this share of n_particles"),
  resampling: z.enum(["multinomial", "systematic"]).default("multinomial")
    .describe("how ancestors are drawn; systematic has less variance"),
  choose: z.enum(["draw", "heaviest"]).default("draw")
    .describe("the particle returned: drawn by weight, or of the text with the most weight"),
  estimator: z.enum(["auto", "mask", "two-loop", "recursive", "geometric"]).default("auto")
    .describe("auto: the constraint's mask if it has one, else recursive or geometric per token"),
  proper_weights: z.boolean().default(true)
    .describe("false: the first allowed token, no weights and no log_z; one particle only"),
  max_accepts: z.int().min(2).max(64).default(2)
    .describe("geometric: allowed tokens to find; more cost checks and lower the variance"),
  max_rejects: z.union([z.literal("none"), z.int().min(2).max(1_000_000)]).default("none")
    .describe("give a particle up after so many refused tokens in one place"),
  visible: z.int().min(1).max(128).default(20)
    .describe("models that show no logits: how many tokens they are asked to tell per step"),
  prune: z.boolean().default(true)
    .describe("leave out control tokens before drawing, without asking about them"),
});

/** Validated parameters. */
export type AwrsParams = z.output<typeof params>;

/** @throws {StrategyParamError} for parameters that do not go together */
export function checkParams(params: AwrsParams): void {
  const { estimator, max_rejects: maxRejects, max_accepts: maxAccepts } = params;
  const refuse = (param: string, detail: string): never => {
    throw new StrategyParamError(name, param, detail);
  };
  if (!params.proper_weights && params.n_particles > 1) {
    refuse("n_particles", "particles compete by their weights: proper_weights is false");
  }
  if (estimator === "two-loop" && maxRejects !== "none") {
    refuse("max_rejects", "two-loop is biased when it gives up");
  }
  if (maxAccepts > 2 && estimator !== "auto" && estimator !== "geometric") {
    refuse("max_accepts", `${estimator} does not use it`);
  }
}
