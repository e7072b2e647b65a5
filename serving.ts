/** What a configuration makes of a process: catalog, upstreams and the app, built anew with every reload. */
import { type LocalModels, MemoryBudgetError, sumStats } from "./local_models.ts";
import { type OpenOptions, openUpstreams, readCalibrations } from "./opened.ts";
import { kvRateStore } from "./rate_store_kv.ts";
import {
  type Admin,
  ApiError,
  type AppDeps,
  createApp,
  createShared,
  type Shared,
} from "./routes/mod.ts";
import { type Catalog, type Config, createCatalog, type Upstream } from "./runtime/mod.ts";
import { appDeps, type compilerFor } from "./wiring.ts";

/** What lives as long as the gateway. */
export interface Process {
  readonly options: OpenOptions & { readonly env?: (name: string) => string | undefined };
  /** Version of the gateway. */
  readonly version: string;
  /** How it calls itself towards upstreams. */
  readonly via: string;
  readonly locals: LocalModels;
  readonly predicates: AppDeps["predicates"];
  readonly constraints: ReturnType<typeof compilerFor>;
  readonly kv: Deno.Kv | undefined;
  readonly state: { isReady: boolean; readonly end: AbortController };
}

/** What a configuration makes of it. */
export interface Serving {
  readonly config: Config;
  readonly upstreams: readonly Upstream[];
  readonly shared: Shared;
  readonly app: ReturnType<typeof createApp>;
  readonly catalog: Catalog;
}

/** Builds the app of a configuration. @throws {ConfigError} */
export async function serve(
  { options, version, via, locals, predicates, constraints, kv, state }: Process,
  config: Config,
  before: Serving | undefined,
): Promise<Serving> {
  const { env = () => undefined, log = () => {} } = options;
  const isSame = before !== undefined &&
    JSON.stringify(before.config.upstreams) === JSON.stringify(config.upstreams);
  const upstreams = isSame
    ? before.upstreams
    : await openUpstreams(config, env, { ...options, via });
  try {
    const catalog = createCatalog(() => [...locals.loaded, ...upstreams]);
    const calibrations = await readCalibrations(config);
    const deps = appDeps({ ...config, calibrations }, {
      catalog,
      env,
      version,
      via,
      ...kv === undefined ? {} : { rates: kvRateStore(kv) },
      constraints,
      ...predicates === undefined ? {} : { predicates },
      admin: administration(locals),
      isReady: () => state.isReady && locals.loaded.every((model) => model.isReady()),
      isDraining: () => !state.isReady,
      endSignal: state.end.signal,
      engineStats: () => sumStats(locals.loaded),
      log,
    });
    const shared = before?.shared ?? createShared(deps);
    return { config, upstreams, shared, catalog, app: createApp(deps, shared) };
  } catch (error) {
    if (!isSame) { for (const upstream of upstreams) upstream[Symbol.dispose](); }
    throw error;
  }
}

function administration(locals: LocalModels): Omit<Admin, "digest"> {
  return {
    models: () => locals.names.map((name) => ({ name, id: locals.find(name) })),
    async load(name) {
      try {
        return await locals.load(name);
      } catch (error) {
        if (!(error instanceof MemoryBudgetError)) throw error;
        throw new ApiError(503, "overloaded", error.message, {
          headers: { "retry-after": "60", "x-should-retry": "false" },
        });
      }
    },
    unload: (name) => locals.unload(name),
  };
}

/** Ends it, when nothing is served any more. */
export async function closeProcess({ locals, constraints, kv }: Process): Promise<void> {
  kv?.close();
  constraints.close();
  await locals[Symbol.asyncDispose]();
}
