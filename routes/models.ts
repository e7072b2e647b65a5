/** `GET /v1/models` and `GET /v1/models/{id}`. */
import type { CatalogEntry } from "../runtime/mod.ts";
import { requireModel } from "./auth.ts";
import type { Alias } from "./deps.ts";
import { ApiError } from "./errors.ts";
import { findModel } from "./roles.ts";
import type { AppContext, Services } from "./services.ts";

/** One model in a listing: the four members of the API, and what else is good to know. */
export function describeModel(id: string, { info, model }: CatalogEntry, alias?: Alias) {
  return {
    id,
    object: "model",
    created: info.created,
    owned_by: info.ownedBy,
    max_model_len: info.contextLength,
    served_by: info.servedBy,
    capabilities: [...model.capabilities].sort(),
    ...info.parameters === undefined ? {} : { parameters: info.parameters },
    ...info.upstream === undefined ? {} : { upstream: info.upstream },
    ...info.draft === undefined ? {} : { draft: info.draft },
    ...alias ? { alias_of: alias.model, decoding: decodingOf(alias) } : {},
  };
}

function decodingOf({ strategy, params, models }: Alias) {
  return { strategy, params, models };
}

/** All models the key may use, aliases last. */
export function listModels(c: AppContext, { deps }: Services): Response {
  const { grant } = c.get("state").caller;
  const models = deps.catalog.list().map(({ id }) => describeModel(id, deps.catalog.get(id)));
  const aliases = [...deps.aliases].map(([id, alias]) =>
    describeModel(id, deps.catalog.get(alias.model), alias)
  );
  const allowed = grant?.models;
  const data = [...models, ...aliases].filter(({ id }) => !allowed || allowed.includes(id));
  return Response.json({ object: "list", data });
}

/** One model. Ids may contain slashes, plain or as `%2F`. */
export function getModel(c: AppContext, { deps }: Services): Response {
  const id = c.req.param("id") ?? "";
  const { entry, alias } = findModel(deps, id);
  requireModel(c.get("state").caller, id, "model");
  return Response.json(describeModel(id, entry, alias));
}

/** The 404 of a path that no route has. */
export function notFound(): ApiError {
  return new ApiError(404, "not_found", "There is nothing at this path");
}
