/** The HTTP application: which path leads where, and what happens around every request. */
import { Hono, type MiddlewareHandler } from "hono";
import { createConstraintCompiler } from "../runtime/mod.ts";
import { adminModels, loadOne, unloadOne } from "./admin.ts";
import { acceptedKeys, authenticate } from "./auth.ts";
import { chatCompletions } from "./chat_completions.ts";
import { completions } from "./completions.ts";
import { corsHeaders, preflight, refuseOrigin } from "./cors.ts";
import type { AppDeps } from "./deps.ts";
import { ApiError, errorResponse, toApiError } from "./errors.ts";
import { health, metricsPage, ready } from "./health.ts";
import { checkHost, refuseLoop } from "./host.ts";
import { logFailure, logRequest } from "./log.ts";
import { createLeases } from "./leases.ts";
import { createMetrics } from "./metrics.ts";
import { listKvPolicies } from "./kv_policies.ts";
import { getModel, listModels, notFound } from "./models.ts";
import { openapi } from "./openapi.ts";
import { createQueue } from "./queue.ts";
import { memoryRateStore } from "./rates.ts";
import { playground } from "./playground.ts";
import { docs, startPage } from "./start_page.ts";
import { chatSchema } from "./schema/chat.ts";
import { completionSchema, detokenizeSchema, tokenizeSchema } from "./schema/completions.ts";
import { ignoredHeader } from "./schema/support.ts";
import type { AppContext, Handler, Services, Shared } from "./services.ts";
import { anybody } from "./auth.ts";
import { type AppEnv, requestId, type RequestState, stateHeaders } from "./state.ts";
import { getOneStrategy, listAllStrategies } from "./strategies.ts";
import { detokenize, tokenize } from "./tokenize.ts";
import { takeRequest } from "./budgets.ts";
import { createTelemetry, nameServerSpan } from "./telemetry.ts";

/** One route. */
export interface Route {
  readonly method: "GET" | "POST";
  /** Hono pattern. */
  readonly path: string;
  /**
   * "public" = no key needed. Everything else needs one, where keys are configured; "admin" needs the
   * admin key, and is not there without one.
   */
  readonly access: "public" | "key" | "admin";
  readonly handler: Handler;
}

/** Every route there is. */
export const routes: readonly Route[] = [
  { method: "GET", path: "/", access: "public", handler: startPage },
  { method: "GET", path: "/docs", access: "public", handler: docs },
  { method: "GET", path: "/playground", access: "public", handler: playground },
  { method: "GET", path: "/health", access: "public", handler: health },
  { method: "GET", path: "/ready", access: "public", handler: ready },
  { method: "GET", path: "/metrics", access: "key", handler: metricsPage },
  { method: "GET", path: "/openapi.json", access: "key", handler: openapi },
  { method: "GET", path: "/v1/models", access: "key", handler: listModels },
  { method: "GET", path: "/v1/models/:id{.+}", access: "key", handler: getModel },
  { method: "GET", path: "/v1/strategies", access: "key", handler: listAllStrategies },
  { method: "GET", path: "/v1/strategies/:name", access: "key", handler: getOneStrategy },
  { method: "GET", path: "/v1/kv-policies", access: "key", handler: listKvPolicies },
  { method: "POST", path: "/v1/chat/completions", access: "key", handler: chatCompletions },
  { method: "POST", path: "/v1/completions", access: "key", handler: completions },
  { method: "GET", path: "/admin/models", access: "admin", handler: adminModels },
  { method: "POST", path: "/admin/models/load", access: "admin", handler: loadOne },
  { method: "POST", path: "/admin/models/unload", access: "admin", handler: unloadOne },
  { method: "POST", path: "/tokenize", access: "key", handler: tokenize },
  { method: "POST", path: "/detokenize", access: "key", handler: detokenize },
];

/**
 * The gateway as a Hono app. It uses web standards only, so that it runs wherever `fetch` handlers
 * do.
 *
 * @param shared what outlives this app, where another one follows it with a new configuration
 */
export function createApp(deps: AppDeps, shared: Shared = createShared(deps)): Hono<AppEnv> {
  const services = createServices(deps, shared);
  const app = new Hono<AppEnv>();
  app.use(shell(services));
  for (const route of routes) {
    app.on(route.method, route.path, (c) => handle(route, c, services));
  }
  for (const path of new Set(routes.map((route) => route.path))) {
    const methods = routes.filter((route) => route.path === path).map((route) => route.method);
    app.all(path, (c) => otherMethod(c, methods, deps));
  }
  app.notFound((c) => failed(c, notFound(), services));
  app.onError((error, c) => failed(c, error, services));
  return app;
}

/** Counters, queue and budgets at zero. */
export function createShared(deps: AppDeps): Shared {
  return {
    metrics: createMetrics(),
    queue: createQueue(),
    leases: createLeases(deps.clock, deps.limits.placeLeaseMs),
    telemetry: createTelemetry(deps.version ?? "0", deps.clock),
    rates: deps.rates ?? memoryRateStore(),
  };
}

function createServices(deps: AppDeps, shared: Shared): Services {
  const { limits } = deps;
  return {
    deps,
    ...shared,
    constraints: deps.constraints ?? createConstraintCompiler(),
    schemas: {
      chat: chatSchema(limits),
      completion: completionSchema(limits),
      tokenize: tokenizeSchema(limits),
      detokenize: detokenizeSchema(),
    },
  };
}

/** Around every request: who asks for what, before; headers, counters and the log, after. */
function shell({ deps, metrics }: Services): MiddlewareHandler<AppEnv> {
  const origins = deps.corsOrigins ?? [];
  return async (c, next) => {
    const request = c.req.raw;
    const state: RequestState = {
      clientSignal: request.signal,
      id: requestId(request.headers, deps.newId),
      startedMs: deps.clock.monotonicMs(),
      route: "",
      caller: anybody,
      ignored: [],
      calls: { attempts: 0, fallbacks: 0 },
    };
    c.set("state", state);
    const refusal = checkHost(request, deps.allowedHosts) ?? refuseOrigin(request, origins) ??
      refuseLoop(request, deps.via);
    if (refusal) c.res = errorResponse(refusal);
    else await next();
    const ms = deps.clock.monotonicMs() - state.startedMs;
    const { headers, status } = c.res;
    for (const [name, value] of stateHeaders(state, ms)) headers.set(name, value);
    if (state.ignored.length > 0) headers.set("x-ignored-params", ignoredHeader(state.ignored));
    for (const [name, value] of corsHeaders(request, origins)) headers.set(name, value);
    metrics.requests.add({
      route: state.route,
      strategy: state.strategy ?? "",
      model: state.model ?? "",
      status: String(status),
    }, 1);
    logRequest(deps, state, request, { status, ms });
  };
}

/** Authorisation goes by the route that was matched, so no path trick gets around it. */
async function handle(route: Route, c: AppContext, services: Services): Promise<Response> {
  const state = c.get("state");
  state.route = route.path;
  nameServerSpan(route.method, route.path);
  if (route.access !== "public") {
    const { admin } = services.deps;
    const isAdmin = route.access === "admin" && admin !== undefined;
    const keys = isAdmin ? [{ digest: admin.digest }] : acceptedKeys(services.deps);
    state.caller = await authenticate(c.req.raw.headers, keys);
    if (route.method === "POST") await takeRequest(services, state);
  }
  return await route.handler(c, services);
}

function otherMethod(c: AppContext, methods: readonly string[], deps: AppDeps): Response {
  const read = methods.includes("GET") ? ["HEAD"] : [];
  const allow = [...methods, ...read, "OPTIONS"].join(", ");
  if (c.req.method === "OPTIONS") return preflight(c.req.raw, allow, deps.corsOrigins ?? []);
  throw new ApiError(405, "method_not_allowed", `This path takes ${allow}`, {
    headers: { allow },
  });
}

function failed(c: AppContext, error: Error, { deps }: Services): Response {
  const state = c.get("state");
  const apiError = toApiError(error, { requestId: state.id, checking: false });
  logFailure(deps, state, apiError);
  return errorResponse(apiError);
}
