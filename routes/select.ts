// deno-lint-ignore-file camelcase -- names as on the wire
/** Request -> strategy, parameters, models per role, KV policy. */
import {
  CapabilityError,
  type CatalogEntry,
  type KvChoice,
  type LanguageModel,
  NotFoundError,
} from "../runtime/mod.ts";
import { getStrategy, parseParams, type Strategy, type TraceLevel } from "../strategies/mod.ts";
import { requireAllowedStrategy, requireModel } from "./auth.ts";
import type { Alias, AppDeps } from "./deps.ts";
import { ApiError } from "./errors.ts";
import { canonical, choiceOf, requireKv, selectKv } from "./kv.ts";
import { checkCapabilities, checkFirstRole, fillRoles, findModel } from "./roles.ts";
import type { RequestState } from "./state.ts";
import { type NamedParams, parseNamedParams } from "./structured_header.ts";

/** Who chose the strategy. */
export type DecodingSource = "header" | "body" | "alias" | "key" | "default";

/** The `decoding` member of a request body, validated in shape. */
export interface DecodingRequest {
  readonly strategy?: string | null | undefined;
  readonly params?: Readonly<Record<string, unknown>> | null | undefined;
  readonly models?: Readonly<Record<string, string>> | null | undefined;
  readonly kv_policy?:
    | {
      readonly name: string;
      readonly params?: Readonly<Record<string, unknown>> | null | undefined;
    }
    | null
    | undefined;
  readonly trace?: TraceLevel | null | undefined;
  readonly fallback?: "refuse" | "allow" | null | undefined;
}

/** How a request will be decoded. */
export interface Selection {
  readonly entry: CatalogEntry;
  readonly strategy: Strategy;
  /** As given; {@link parsed} has the defaults. */
  readonly params: Readonly<Record<string, unknown>>;
  readonly parsed: unknown;
  /** Role -> model. */
  readonly models: Readonly<Record<string, LanguageModel>>;
  readonly source: DecodingSource;
  /** Undefined = the full cache. */
  readonly kv: KvChoice | undefined;
  /** Whether a policy was named, be it `full`, so that usage tells what the cache held. */
  readonly namesKv: boolean;
  readonly trace: TraceLevel;
}

/**
 * Decides how to decode: header and body (which must agree) before the alias before the server's
 * default. Writes what it decides into `state` as it goes, so that errors can tell it too.
 *
 * @throws {ApiError} for everything that does not fit
 */
export function select(
  deps: AppDeps,
  state: RequestState,
  headers: Headers,
  model: string,
  decoding: DecodingRequest,
): Selection {
  const { entry, alias } = findModel(deps, model);
  state.model = entry.info.id;
  state.servedBy = entry.info.servedBy;
  requireModel(state.caller, model, "model");
  for (const [role, id] of Object.entries(decoding.models ?? {})) {
    requireModel(state.caller, id, `decoding.models.${role}`);
  }
  const named = nameStrategy(deps, state, headers, decoding, alias);
  const strategy = namedStrategy(named);
  state.strategy = strategy.name;
  state.source = named.source;
  requireAllowedStrategy(state.caller, strategy.name, named.param);
  if (entry.info.upstream) refuseKv(headers, decoding.kv_policy);
  const namedKv = entry.info.upstream
    ? undefined
    : selectKv(deps, state, headers, decoding.kv_policy);
  const shared = {
    entry,
    source: named.source,
    kv: choiceOf(namedKv),
    namesKv: namedKv !== undefined,
    trace: decoding.trace ?? "none",
  };
  const { params } = named;
  const parsed = parseParams(strategy, params);
  const given = { ...(named.source === "alias" ? alias?.models : {}), ...decoding.models };
  let models: Selection["models"];
  try {
    // First, so that nobody is told to name a draft for a model that cannot use one.
    checkFirstRole(strategy, entry);
    models = fillRoles(deps, entry, strategy, given, parsed);
    checkCapabilities(strategy, parsed, models);
  } catch (error) {
    if (!(error instanceof CapabilityError) || decoding.fallback !== "allow") throw error;
    const fallen = fallBack(deps, state, entry);
    requireKv(state, namedKv, Object.values(fallen.models));
    return { ...shared, ...fallen };
  }
  requireKv(state, namedKv, Object.values(models));
  return { ...shared, strategy, params, parsed, models };
}

/**
 * Nobody would honour a KV policy at another server, not even `full`.
 *
 * @throws {ApiError} 400 `strategy_unsupported`
 */
function refuseKv(headers: Headers, inBody: DecodingRequest["kv_policy"]): void {
  const param = inBody ? "decoding.kv_policy" : "X-KV-Policy";
  if (!inBody && !headers.has("X-KV-Policy")) return;
  throw new ApiError(
    400,
    "strategy_unsupported",
    "The model is computed by an upstream, which takes no KV policy",
    { param },
  );
}

/** The default strategy instead, said so in the response's headers. */
function fallBack(deps: AppDeps, state: RequestState, entry: CatalogEntry) {
  const strategy = getStrategy(deps.defaults.strategy);
  requireAllowedStrategy(state.caller, strategy.name, "decoding.fallback");
  const parsed = parseParams(strategy, {});
  const models = fillRoles(deps, entry, strategy, {}, parsed);
  checkCapabilities(strategy, parsed, models);
  state.fallback = state.strategy;
  state.strategy = strategy.name;
  return { strategy, params: {}, parsed, models };
}

interface NamedStrategy extends NamedParams {
  readonly source: DecodingSource;
  /** Where the name was given. */
  readonly param: string;
}

function nameStrategy(
  deps: AppDeps,
  { caller }: RequestState,
  headers: Headers,
  decoding: DecodingRequest,
  alias: Alias | undefined,
): NamedStrategy {
  const header = parseNamedParams(headers, "X-Decoding-Strategy", deps.limits.headerBytes);
  const { strategy: name, params } = decoding;
  if (header) {
    requireAgreement(header, decoding);
    return { ...header, source: "header", param: "X-Decoding-Strategy" };
  }
  if (name) return { name, params: params ?? {}, source: "body", param: "decoding.strategy" };
  if (alias?.strategy !== undefined) {
    return {
      name: alias.strategy,
      params: { ...alias.params, ...params },
      source: "alias",
      param: "model",
    };
  }
  const ofKey = caller.grant?.strategy;
  return {
    name: ofKey ?? deps.defaults.strategy,
    params: params ?? {},
    source: ofKey === undefined ? "default" : "key",
    param: "decoding.strategy",
  };
}

/** Header and body may both name a strategy only if they say the same, defaults filled in. */
function requireAgreement(header: NamedParams, { strategy, params }: DecodingRequest): void {
  const speaks = strategy || params;
  if (!speaks) return;
  const sameName = !strategy || strategy === header.name;
  if (sameName && sameParams(header, params ?? {})) return;
  throw new ApiError(
    400,
    "strategy_conflict",
    "The header X-Decoding-Strategy and the body's decoding member ask for different things",
    { param: "decoding" },
  );
}

function sameParams(header: NamedParams, body: Readonly<Record<string, unknown>>): boolean {
  const strategy = namedStrategy({ ...header, param: "X-Decoding-Strategy" });
  const [a, b] = [header.params, body].map((params) => canonical(parseParams(strategy, params)));
  return a === b;
}

/** @throws {ApiError} 400 `unknown_strategy`, where it was given as `param` */
function namedStrategy({ name, param }: Omit<NamedStrategy, "params" | "source">): Strategy {
  try {
    return getStrategy(name);
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    throw new ApiError(400, "unknown_strategy", error.message, { param });
  }
}
