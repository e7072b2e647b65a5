/** Models by public name, and the models behind a strategy's roles. */
import {
  type Catalog,
  type CatalogEntry,
  type LanguageModel,
  NotFoundError,
  requireCapabilities,
} from "../runtime/mod.ts";
import { type Strategy, usedRoles } from "../strategies/mod.ts";
import type { Alias, AppDeps } from "./deps.ts";
import { ApiError, invalidValue, missing } from "./errors.ts";

/** A named model, or the one an alias stands for. @throws {ApiError} 404 `model_not_found` */
export function findModel(
  deps: Pick<AppDeps, "catalog" | "aliases" | "keys">,
  name: string,
): { entry: CatalogEntry; alias: Alias | undefined } {
  const alias = deps.aliases.get(name);
  return { entry: lookUp(deps.catalog, alias?.model ?? name, "model", deps), alias };
}

function lookUp(
  catalog: Catalog,
  id: string,
  param: string,
  deps?: Pick<AppDeps, "aliases" | "keys">,
): CatalogEntry {
  try {
    return catalog.get(id);
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    // Where keys are limited to models, the others' names are nobody's business.
    const isOpen = !deps?.keys?.some(({ models }) => models !== undefined);
    const known = isOpen
      ? `; known: ${
        [...catalog.list().map((info) => info.id), ...deps?.aliases.keys() ?? []].join(", ")
      }`
      : "";
    throw new ApiError(
      404,
      "model_not_found",
      `Unknown model ${JSON.stringify(id)}${known}`,
      { param },
    );
  }
}

/**
 * A model per role: the request's model takes the first role declared, `given` names others, and a
 * role called `draft` or `small` that nobody names takes the draft model that belongs to the first.
 *
 * @param given role -> model id
 * @param params validated parameters: some use more roles than others
 * @throws {ApiError}
 */
export function fillRoles(
  deps: AppDeps,
  entry: CatalogEntry,
  strategy: Strategy,
  given: Readonly<Record<string, string>>,
  params: unknown,
): Record<string, LanguageModel> {
  const roles = Object.keys(usedRoles(strategy, params));
  for (const role of Object.keys(given)) {
    if (roles.includes(role)) continue;
    if (Object.hasOwn(strategy.optionalNeeds ?? {}, role)) {
      throw invalidValue(
        `decoding.models.${role}`,
        `Strategy ${strategy.name} uses no model as role ${role} with these parameters`,
      );
    }
    throw invalidValue(
      `decoding.models.${role}`,
      `Strategy ${strategy.name} has no role ${JSON.stringify(role)}; its roles: ${
        roles.join(", ")
      }`,
    );
  }
  const filled = roles.map((role, index): [string, LanguageModel] => {
    const param = `decoding.models.${role}`;
    const id = Object.hasOwn(given, role) ? given[role] : undefined;
    if (index === 0) return [role, firstRole(deps, entry, id, param)];
    const chosen = id ?? (isDraftRole(role) ? entry.info.draft : undefined);
    if (chosen === undefined) {
      throw missing(param, `Strategy ${strategy.name} needs a model for its role ${role}`);
    }
    return [role, lookUp(deps.catalog, chosen, param).model];
  });
  return Object.fromEntries(filled);
}

/** Roles of a cheaper model that answers in the first one's place, or proposes to it. */
function isDraftRole(role: string): boolean {
  return role === "draft" || role === "small";
}

function firstRole(
  deps: AppDeps,
  entry: CatalogEntry,
  id: string | undefined,
  param: string,
): LanguageModel {
  if (id !== undefined && lookUp(deps.catalog, id, param) !== entry) {
    throw invalidValue(param, "This role is the request's model; another one was named for it");
  }
  return entry.model;
}

/** @throws {CapabilityError} if the request's model lacks what the first role needs */
export function checkFirstRole(strategy: Strategy, { model }: CatalogEntry): void {
  const [role, needs] = Object.entries(strategy.needs)[0]!;
  requireCapabilities(model, needs, { strategy: strategy.name, role });
}

/** @throws {CapabilityError} if a model lacks what its role needs */
export function checkCapabilities(
  strategy: Strategy,
  params: unknown,
  models: Readonly<Record<string, LanguageModel>>,
): void {
  for (const [role, needs] of Object.entries(usedRoles(strategy, params))) {
    requireCapabilities(models[role]!, needs, { strategy: strategy.name, role });
  }
}
