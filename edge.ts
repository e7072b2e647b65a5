/**
 * Decant for edge platforms: one `fetch` function that needs no files, no GPU, no Workers and no
 * native code. Models are upstream, or small ones that are given in memory.
 *
 * @example Cloudflare Workers, with a model and kernels compiled at build time
 * ```ts ignore
 * import kernels from "./kernels.wasm";
 * import { serveEdge } from "./edge.js";
 * import { model } from "./decant-tiny-draft.js";
 *
 * export default serveEdge({ models: [model], kernels });
 * ```
 */
import { createApp, type LogEvent } from "./routes/mod.ts";
import {
  type Backend,
  createEdgeTurns,
  edgeBackend,
  loadMemoryModel,
  type MemoryFiles,
} from "./runtime/edge.ts";
import {
  type CatalogEntry,
  type Config,
  ConfigError,
  type ConfigInput,
  createCatalog,
  createUpstreams,
  parseConfig,
} from "./runtime/mod.ts";
import { requireStrategy } from "./keys.ts";
import { upstreamHost } from "./upstream_host.ts";
import { appDeps, requireSafeBinding } from "./wiring.ts";

/** A model in memory. */
export interface EdgeModel {
  /** Public id. */
  readonly id: string;
  readonly files: MemoryFiles;
  /** Id of another given model that may draft for this one. */
  readonly draft?: string;
}

/** What a gateway on the edge is made of. */
export interface EdgeOptions {
  /** As in the configuration file. Bodies are limited to 1 MiB, KV memory to 8 MiB per request. */
  readonly config?: ConfigInput;
  /** Reads one environment variable. @default none are set */
  readonly env?: (name: string) => string | undefined;
  /** Models in memory; the first is the default. */
  readonly models?: readonly EdgeModel[];
  /** The compiled kernels, where nothing may be compiled at run time. */
  readonly kernels?: WebAssembly.Module;
  /** @default nothing is logged */
  readonly log?: (event: LogEvent) => void;
}

/** A gateway of one thread. */
export interface Edge {
  readonly config: Config;
  fetch(request: Request): Response | Promise<Response>;
}

const megabyte = 1024 * 1024;
/** Requests that hold KV memory at once. */
const concurrentRequests = 8;
/** See `Limits.placeLeaseMs`. */
const placeLeaseMs = 10_000;
const version = "0.1.0";

/**
 * Builds the app. Nothing runs and no timer is set before the first request.
 *
 * @throws {ConfigError} naming the key that cannot be used
 * @throws {FormatError} if a model's files are damaged
 */
export function createEdge(options: EdgeOptions = {}): Edge {
  const { env = () => undefined, models = [] } = options;
  const config = edgeConfig(options.config ?? {}, models);
  requireStrategy("default_strategy", config.default_strategy, {});
  requireSafeBinding(config);
  const log = options.log ?? (() => {});
  // Nothing is probed: an upstream passes for what its engine is known to be, or declared as.
  const upstreams = createUpstreams(config, upstreamHost(log), { env, created: 0 });
  const deps = appDeps(config, {
    catalog: createCatalog([...loadAll(config, models, options.kernels), ...upstreams]),
    env,
    version,
    isReady: () => true,
    log,
  });
  const app = createApp({ ...deps, limits: { ...deps.limits, placeLeaseMs } });
  return { config, fetch: (request) => app.fetch(request) };
}

/** The configuration with what an edge platform needs where it is silent. */
function edgeConfig(input: ConfigInput, models: readonly EdgeModel[]): Config {
  return parseConfig({
    host: "0.0.0.0", // the platform listens; any name may be ours
    models: models.map(({ id }) => id),
    kv_bytes: 8 * megabyte,
    ...input,
    limits: { body_bytes: megabyte, running: concurrentRequests, ...input.limits },
  }, "configuration");
}

function loadAll(
  config: Config,
  models: readonly EdgeModel[],
  kernels: WebAssembly.Module | undefined,
): CatalogEntry[] {
  let backend: Backend | undefined;
  return config.models.map((id) => {
    const given = models.find((model) => model.id === id);
    if (given === undefined) {
      throw new ConfigError("models", `Invalid "models": "${id}" is not part of this bundle`);
    }
    backend ??= edgeBackend(config.backend, kernels);
    return loadMemoryModel(given.files, {
      id,
      backend,
      context: config.context,
      kvBytes: config.kv_bytes,
      requests: concurrentRequests,
      created: 0,
      nextTurn: createEdgeTurns(),
      ...given.draft === undefined ? {} : { draft: given.draft },
    });
  });
}

/** What platforms pass beside the request: Cloudflare its bindings, Deno where it came from. */
type Bindings = Readonly<Record<string, unknown>>;

/**
 * A `{ fetch }` that configures itself with the first request: JSON in the variable DECANT_CONFIG,
 * from the bindings (Cloudflare) or the environment (Deno).
 */
export function serveEdge(
  parts: Pick<EdgeOptions, "models" | "kernels"> = {},
): { fetch(request: Request, bindings?: Bindings): Response | Promise<Response> } {
  let edge: Edge | undefined;
  return {
    fetch(request, bindings = {}) {
      try {
        edge ??= fromEnvironment(parts, bindings);
      } catch (error) {
        return notConfigured(error);
      }
      return edge.fetch(request);
    },
  };
}

function fromEnvironment(
  parts: Pick<EdgeOptions, "models" | "kernels">,
  bindings: Bindings,
): Edge {
  const env = (name: string): string | undefined => {
    const bound = Object.hasOwn(bindings, name) ? bindings[name] : undefined;
    if (typeof bound === "string") return bound;
    return typeof Deno === "undefined" ? undefined : Deno.env.get(name);
  };
  return createEdge({
    ...parts,
    config: readConfig(env("DECANT_CONFIG") ?? "{}"),
    env,
    // deno-lint-ignore no-console -- where platforms collect logs
    log: (event) => console.log(JSON.stringify(event)),
  });
}

function readConfig(text: string): ConfigInput {
  try {
    return JSON.parse(text);
  } catch {
    throw new ConfigError("DECANT_CONFIG", "DECANT_CONFIG is not JSON"); // it may hold secrets
  }
}

/** The log says why; strangers need not know. */
function notConfigured(error: unknown): Response {
  const message = error instanceof Error ? error.message : String(error);
  // deno-lint-ignore no-console
  console.error(JSON.stringify({ level: "error", event: "not_configured", message }));
  return Response.json({
    error: {
      message: "The gateway is not configured; its log says why",
      type: "server_error",
      param: null,
      code: "model_loading",
    },
  }, { status: 503, headers: { "retry-after": "60" } });
}

// Strategies that yield to the event loop use it; not every platform has it.
const timers: { setImmediate?: unknown } = globalThis;
timers.setImmediate ??= (run: () => void) => setTimeout(run, 0);

export default serveEdge();
