/** What routes may import from the strategies floor. */
import * as z from "zod";
import { NotFoundError } from "../runtime/mod.ts";
import * as registry from "./registry.ts";
import type { Roles, Strategy } from "./strategy.ts";

export * from "./strategy.ts";
export * from "./run.ts";
export { isHonoured, parseParams } from "./_checks.ts";
export {
  type CalibratedRule,
  type Calibration,
  parseCalibration,
  scoreOf,
  type Scoring,
} from "./_cascade_rule.ts";
export { featureCount, featuresOf, forward, type Network } from "./_cascade_network.ts";
export { promptFeatures, type Router, routerBuckets, routerScore } from "./_cascade_router.ts";
export { quantileOf } from "./_quantile.ts";
export { extractAnswer } from "./_votes.ts";

const byName: ReadonlyMap<string, Strategy> = new Map(
  Object.values<Strategy>(registry)
    .sort((a, b) => a.name < b.name ? -1 : 1)
    .map((strategy) => [strategy.name, strategy]),
);

/** All strategies, by name. */
export function listStrategies(): readonly Strategy[] {
  return [...byName.values()];
}

/** The strategy with a public name. @throws {NotFoundError} listing the known ones */
export function getStrategy(name: string): Strategy {
  const strategy = byName.get(name);
  if (!strategy) throw new NotFoundError("strategy", name, [...byName.keys()]);
  return strategy;
}

/** What listings say about a strategy. */
export interface StrategyDescription {
  readonly name: string;
  readonly summary: string;
  readonly source: string;
  readonly streaming: Strategy["streaming"];
  readonly constrained: boolean;
  readonly needs: Roles;
  /** Roles that only some parameters use. */
  readonly optionalNeeds: Roles;
  /** Besides `needs`, when a request has a constraint. */
  readonly constrainedNeeds: Roles;
  /** JSON schema of the parameters as a request gives them. */
  readonly params: Readonly<Record<string, unknown>>;
}

/** Describes a strategy for listings and documents. */
export function describeStrategy(strategy: Strategy): StrategyDescription {
  const { name, summary, source, streaming, constrained, needs } = strategy;
  const { optionalNeeds = {}, constrainedNeeds = {} } = strategy;
  const params = strategy.params instanceof z.ZodType
    ? z.toJSONSchema(strategy.params, { io: "input" })
    : {};
  return {
    name,
    summary,
    source,
    streaming,
    constrained,
    needs,
    optionalNeeds,
    constrainedNeeds,
    params,
  };
}
