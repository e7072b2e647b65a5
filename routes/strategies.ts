/** `GET /v1/strategies` and `GET /v1/strategies/{name}`. */
import { NotFoundError } from "../runtime/mod.ts";
import { describeStrategy, getStrategy, listStrategies, type Strategy } from "../strategies/mod.ts";
import { visibleModels } from "./auth.ts";
import type { AppDeps } from "./deps.ts";
import { ApiError } from "./errors.ts";
import type { AppContext, Services } from "./services.ts";

/** A strategy, its parameters as a JSON schema, and which models can take which role. */
function describe(strategy: Strategy, { catalog, defaults }: AppDeps) {
  const { optionalNeeds, constrainedNeeds, ...rest } = describeStrategy(strategy);
  const models = Object.fromEntries(
    Object.entries({ ...strategy.needs, ...optionalNeeds }).map(([role, needs]) => [
      role,
      catalog.list().map(({ id }) => id).filter((id) => {
        const { capabilities } = catalog.get(id).model;
        return needs.every((need) => capabilities.has(need));
      }),
    ]),
  );
  return {
    object: "strategy",
    ...rest,
    optional_needs: optionalNeeds,
    constrained_needs: constrainedNeeds,
    default: strategy.name === defaults.strategy,
    logprobs_mode: "raw",
    models,
  };
}

/** All strategies. */
export function listAllStrategies(c: AppContext, { deps }: Services): Response {
  const visible = { ...deps, catalog: visibleModels(c.get("state").caller, deps.catalog) };
  return Response.json({
    object: "list",
    data: listStrategies().map((strategy) => describe(strategy, visible)),
  });
}

/** One strategy. */
export function getOneStrategy(c: AppContext, { deps }: Services): Response {
  const visible = { ...deps, catalog: visibleModels(c.get("state").caller, deps.catalog) };
  try {
    return Response.json(describe(getStrategy(c.req.param("name") ?? ""), visible));
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    throw new ApiError(404, "not_found", error.message, { param: "name" });
  }
}
