// deno-lint-ignore-file camelcase -- names as on the wire
/** The links of a cascade: which models, in which order, and when each passes on. */
import type { LanguageModel } from "../runtime/mod.ts";
import {
  type Calibration,
  findRule,
  type RuleName,
  type Scoring,
  thresholdAt,
} from "./_cascade_rule.ts";
import { isHonoured } from "./_checks.ts";
import { RoleError, StrategyParamError } from "./_errors.ts";
import type { StrategyDemand } from "./strategy.ts";

const name = "cascade";

/** A model that answers unless its answer is not good enough. */
export interface Link {
  readonly role: string;
  readonly model: LanguageModel<"generate">;
  readonly scoring: Scoring;
  /** Answers below it are deferred. */
  readonly threshold: number;
}

type Model = LanguageModel<"generate">;

/** A cascade's models by role. */
export interface ChainModels {
  readonly large: Model;
  readonly small: Model;
  readonly middle?: Model;
  readonly middle2?: Model;
}

/** What links depend on. */
export interface LinkParams {
  readonly models: number;
  readonly rule: RuleName;
  readonly alpha_q: number;
  readonly threshold: "calibrated" | number | readonly number[];
  readonly calibration: string;
  readonly defer_rate: "calibrated" | number;
}

/** As many models as the parameters say, in the order in which they answer. */
function chainOf({ small, middle, middle2, large }: ChainModels, count: number) {
  const between = [["middle", middle], ["middle2", middle2]] as const;
  const all = [["small", small], ...between.slice(0, count - 2), ["large", large]] as const;
  return all.flatMap(([role, model]) => model ? [{ role, model }] : []);
}

/** @throws {StrategyParamError} for thresholds that are missing or do not fit */
export function linksOf(
  models: ChainModels,
  params: LinkParams,
  calibrations: ReadonlyMap<string, Calibration>,
): { readonly links: readonly Link[]; readonly last: { readonly model: Model } } {
  const chain = chainOf(models, params.models);
  const count = chain.length - 1;
  const calibrated = calibratedRule(chain.map(({ model }) => model.id), params, calibrations);
  const { threshold, rule, alpha_q: alpha } = params;
  if (Array.isArray(threshold) && threshold.length !== count) {
    throw new StrategyParamError(name, "threshold", `${threshold.length} for ${count} links`);
  }
  const links = chain.slice(0, -1).map((link, i): Link => ({
    ...link,
    scoring: { rule, alpha, calibrated },
    threshold: typeof threshold === "number"
      ? threshold
      : typeof threshold === "object"
      ? threshold[i]!
      : params.defer_rate === "calibrated"
      ? calibrated!.threshold
      : thresholdAt(calibrated!, params.defer_rate),
  }));
  return { links, last: chain.at(-1)! };
}

/** Undefined where the parameters need none. */
function calibratedRule(
  ids: readonly string[],
  { rule, alpha_q: alpha, threshold, calibration: wanted, defer_rate: rate }: LinkParams,
  calibrations: ReadonlyMap<string, Calibration>,
) {
  if (threshold !== "calibrated" && rate !== "calibrated") {
    throw new StrategyParamError(name, "defer_rate", "a threshold is given as well");
  }
  const isNeeded = threshold === "calibrated" || rule === "learned" || rule === "router";
  if (wanted === "") {
    if (!isNeeded) return undefined;
    const param = rule === "learned" || rule === "router" ? "calibration" : "threshold";
    throw new StrategyParamError(
      name,
      param,
      "give a threshold or a calibration; there is no universal value",
    );
  }
  const found = calibrations.get(wanted);
  if (!found) {
    const known = [...calibrations.keys()].join(", ") || "there are none";
    throw new StrategyParamError(name, "calibration", `unknown; known: ${known}`);
  }
  if (found.models.join() !== ids.join()) {
    const detail = `made for ${found.models.join(" and ")}, not for ${ids.join(" and ")}`;
    throw new StrategyParamError(name, "calibration", detail);
  }
  const entry = findRule(found, rule, alpha);
  if (!entry) throw new StrategyParamError(name, "rule", "the calibration does not have it");
  return entry;
}

/**
 * @returns the models in order
 * @throws {StrategyParamError | RoleError} for what does not go together
 */
export function checkChain(
  models: ChainModels,
  params: LinkParams,
  { constraint, format, sampling, stopTokens, calibrations }: Pick<
    StrategyDemand<unknown>,
    "constraint" | "format" | "sampling" | "stopTokens" | "calibrations"
  >,
): readonly { readonly role: string; readonly model: Model }[] {
  linksOf(models, params, calibrations);
  const chain = chainOf(models, params.models);
  const isById = sampling.logitBias.length > 0 || stopTokens.length > 0;
  if (isById) requireOneVocab(chain, models.large);
  // One set of masks serves all models that do not see to the constraint by themselves.
  const masked = constraint ? chain.filter(({ model }) => !isHonoured(model, format)) : [];
  if (masked.length > 0) requireOneVocab(masked, masked.at(-1)!.model);
  return chain;
}

/** @throws {RoleError} */
function requireOneVocab(
  chain: readonly { readonly role: string; readonly model: Model }[],
  { vocab: own }: Model,
): void {
  for (const { role, model } of chain) {
    if (own && model.vocab?.fingerprint === own.fingerprint) continue;
    throw new RoleError(name, role, "token ids mean something else to it than to the model");
  }
}
