/**
 * Decant: an OpenAI-compatible gateway that lets every request choose how the model decodes.
 *
 * The only place that sees every floor: it reads the configuration, loads models and wires the app.
 *
 * @example A gateway without a port
 * ```ts ignore
 * await using gateway = await createGateway({ models: ["decant-tiny"] });
 * const response = await gateway.fetch(new Request("http://localhost/v1/models"));
 * ```
 */
import { pathToFileURL } from "node:url";
import { kvRateStore } from "./rate_store_kv.ts";
import { type AppDeps, createApp, type LogEvent } from "./routes/mod.ts";
import {
  createCompileWorker,
  createDeadline,
  type HubOptions,
  type LoadedModel,
  loadModel,
  loadTokenizer,
  resolveModelPath,
  selectBackend,
} from "./runtime/local.ts";
import {
  type Config,
  ConfigError,
  type ConfigInput,
  createCatalog,
  createUpstreams,
  type ModelInfo,
  namedTokenizers,
  parseConfig,
  type Predicate,
  predicateProblem,
  type Upstream,
  type UpstreamHost,
} from "./runtime/mod.ts";
import {
  appDeps,
  compilerFor,
  readKeys,
  requireSafeBinding,
  requireStrategy,
  upstreamHost,
} from "./wiring.ts";

export type { Config, ConfigInput, ModelInfo };
export { isLoopback } from "./wiring.ts";

/** What a gateway takes from the outside world; tests pass their own. */
export interface GatewayOptions {
  /** Reads one environment variable. @default none are set */
  readonly env?: (name: string) => string | undefined;
  /** Whether models compute in Workers or in this thread. @default "worker" */
  readonly thread?: "worker" | "own";
  /** Tells how far downloads are. */
  readonly onProgress?: HubOptions["onProgress"];
  /** @default nothing is logged */
  readonly log?: (event: LogEvent) => void;
  /** Talks to upstreams. @default the platform's */
  readonly fetch?: UpstreamHost["fetch"];
}

/** A running gateway, free of any port. */
export interface Gateway extends AsyncDisposable {
  readonly config: Config;
  /** Name of the backend the models run on. */
  readonly backend: string;
  readonly models: readonly ModelInfo[];
  fetch(request: Request): Response | Promise<Response>;
  /** Makes /ready answer 503, so that balancers stop sending. */
  drain(): void;
}

/** Version of the gateway, as deno.json says. */
export const version = "0.1.0";

/** Folder of the models that ship with the repository. */
const embeddedRoot = decodeURIComponent(new URL("./models/", import.meta.url).pathname);

/**
 * Loads the configured models and builds the app.
 *
 * @throws {ConfigError} naming the key that cannot be used
 * @throws {FormatError | NotFoundError} if a model's files are damaged or missing
 */
export async function createGateway(
  input: ConfigInput = {},
  options: GatewayOptions = {},
): Promise<Gateway> {
  const config = parseConfig(input, "configuration");
  const env = options.env ?? (() => undefined);
  requireStrategy("default_strategy", config.default_strategy, {});
  requireSafeBinding(config);
  readKeys(config, env);
  const backend = await backendName(config.backend);
  const models = await loadAll(config, backend, env, options);
  const upstreams = await openUpstreams(config, env, options);
  const catalog = createCatalog([...models, ...upstreams]);
  const state = { ready: true };
  const kv = config.rates === "kv" ? await Deno.openKv(config.rates_path) : undefined;
  const calibrations = await readCalibrations(config);
  const predicates = await loadPredicates(config);
  const isAlone = options.thread === "own";
  const constraints = compilerFor(config, isAlone ? undefined : createCompileWorker());
  const app = createApp(appDeps({ ...config, calibrations }, {
    catalog,
    env,
    version,
    ...kv === undefined ? {} : { rates: kvRateStore(kv) },
    constraints,
    ...predicates === undefined ? {} : { predicates },
    isReady: () => state.ready,
    engineStats: () => sumStats(models),
    log: options.log ?? (() => {}),
  }));
  return {
    config,
    backend,
    models: catalog.list(),
    fetch: (request) => app.fetch(request),
    drain: () => void (state.ready = false),
    async [Symbol.asyncDispose]() {
      state.ready = false;
      kv?.close();
      constraints.close();
      for (const upstream of upstreams) upstream[Symbol.dispose]();
      for (const model of models) await model[Symbol.asyncDispose]();
    },
  };
}

/** The backend that a setting stands for on this machine. @throws {NotFoundError} */
async function backendName(setting: string): Promise<string> {
  using backend = await selectBackend(setting);
  return backend.name;
}

/** The configured predicates. @throws {ConfigError} for a module that is missing or is none */
async function loadPredicates(config: Config): Promise<AppDeps["predicates"]> {
  const entries = Object.entries(config.predicates);
  if (entries.length === 0) return undefined;
  const byName = new Map<string, Predicate>();
  for (const [name, path] of entries) {
    const key = `predicates.${name}`;
    if (/^[a-z][a-z0-9+.-]+:/i.test(path)) {
      throw new ConfigError(key, `Invalid "${key}": only paths of local files are taken`);
    }
    let module: unknown;
    try {
      module = await import(pathToFileURL(await Deno.realPath(path)).href);
    } catch (error) {
      throw new ConfigError(key, `Cannot load "${key}": ${(error as Error).message}`);
    }
    const problem = predicateProblem(module);
    if (problem !== undefined) throw new ConfigError(key, `Invalid "${key}": ${problem}`);
    byName.set(name, module as Predicate);
  }
  return { byName, withDeadline: createDeadline(), limitMs: config.limits.predicate_ms };
}

/** Calibrations with their files read. @throws {ConfigError} for a file that is not JSON */
async function readCalibrations({ calibrations }: Config): Promise<Config["calibrations"]> {
  const read = async (name: string, value: Config["calibrations"][string]) => {
    if (typeof value !== "string") return value;
    const key = `calibrations.${name}`;
    try {
      return JSON.parse(await Deno.readTextFile(value));
    } catch (error) {
      throw new ConfigError(key, `Cannot read "${key}": ${(error as Error).message}`);
    }
  };
  return Object.fromEntries(
    await Promise.all(
      Object.entries(calibrations).map(async ([name, value]) => [name, await read(name, value)]),
    ),
  );
}

/** The configured upstreams, asked what they can do. One that is away is served all the same. */
async function openUpstreams(
  config: Config,
  env: (name: string) => string | undefined,
  options: GatewayOptions,
): Promise<Upstream[]> {
  const double = config.models.find((id) => Object.hasOwn(config.upstreams, id));
  if (double !== undefined) {
    throw new ConfigError("upstreams", `Invalid "upstreams": "${double}" is also among "models"`);
  }
  const tokenizers = new Map(
    await Promise.all(
      namedTokenizers(config).map(async (name) => {
        const hub = () => hubOptions(config, env, options);
        const { path } = await resolveModelPath(name, { embeddedRoot, hub });
        return [name, await loadTokenizer(path)] as const;
      }),
    ),
  );
  const host = upstreamHost(options.log ?? (() => {}), options.fetch);
  const created = Math.floor(Date.now() / 1000);
  const upstreams = createUpstreams(config, host, { env, tokenizers, created });
  await Promise.all(upstreams.map((upstream) => upstream.probe()));
  for (const upstream of upstreams) upstream.watch();
  return upstreams;
}

async function loadAll(
  config: Config,
  backend: string,
  env: (name: string) => string | undefined,
  options: GatewayOptions,
): Promise<LoadedModel[]> {
  const loaded: LoadedModel[] = [];
  try {
    for (const text of config.models) {
      const hub = () => hubOptions(config, env, options);
      const source = await resolveModelPath(text, { embeddedRoot, hub });
      if (loaded.some((model) => model.info.id === source.id)) {
        throw new ConfigError("models", `Invalid "models": "${source.id}" is given twice`);
      }
      if (source.stale) {
        options.log?.({ level: "warn", event: "hub_unreachable", model: source.id });
      }
      const draft = `${source.id}-draft`;
      loaded.push(
        await loadModel(source.path, {
          id: source.id,
          backend,
          thread: options.thread ?? "worker",
          context: config.context,
          kvBytes: config.kv_bytes,
          created: source.created,
          ownedBy: source.origin === "embedded" ? "decant" : source.origin,
          draft: config.models.includes(draft) ? draft : undefined,
        }),
      );
    }
    return loaded;
  } catch (error) {
    for (const model of loaded) await model[Symbol.asyncDispose]();
    throw error;
  }
}

/** Gauges for /metrics, summed over the models of this process. */
function sumStats(models: readonly LoadedModel[]): Record<string, number> {
  const sum: Record<string, number> = {};
  const add = (name: string, value: number) => sum[name] = (sum[name] ?? 0) + value;
  for (const { engine } of models) {
    const { steps, rows, tokens, openSessions, waitingAsks, preemptions, pages, prefix } = engine
      .stats();
    add("engine_steps", steps);
    add("engine_rows", rows);
    add("engine_tokens", tokens);
    add("sessions_open", openSessions);
    add("asks_waiting", waitingAsks);
    add("preemptions", preemptions);
    add("kv_pages", pages.total);
    add("kv_pages_free", pages.free);
    add("kv_pages_cached", pages.cached);
    add("prefix_cache_lookups", prefix.lookups);
    add("prefix_cache_hit_tokens", prefix.hitTokens);
  }
  return sum;
}

const hubClock: HubOptions["clock"] = {
  now: () => performance.now(),
  wait: (ms, signal) =>
    new Promise((resolve, reject) => {
      const cancel = () => {
        clearTimeout(timer);
        reject(signal.reason);
      };
      const timer = setTimeout(() => {
        signal.removeEventListener("abort", cancel);
        resolve();
      }, ms);
      if (signal.aborted) cancel();
      else signal.addEventListener("abort", cancel, { once: true });
    }),
};

function hubOptions(
  config: Config,
  env: (name: string) => string | undefined,
  { onProgress }: GatewayOptions,
): HubOptions {
  const token = env("HF_TOKEN");
  return {
    endpoint: env("HF_ENDPOINT") ?? "https://huggingface.co",
    cacheFolder: config.cache_dir ?? defaultCacheDir(env),
    fetch,
    clock: hubClock,
    retries: 5, // half a minute: a start should not hang for long
    ...(token === undefined ? {} : { token }),
    ...(onProgress === undefined ? {} : { onProgress }),
  };
}

function defaultCacheDir(env: (name: string) => string | undefined): string {
  const home = env("HOME") ?? env("USERPROFILE");
  if (home === undefined) {
    throw new ConfigError("cache_dir", 'Set "cache_dir": there is no home folder to download to');
  }
  return `${home}/.cache/decant/hub`;
}

let served: Promise<Gateway> | undefined;

/** For `deno serve mod.ts`: the default configuration, loaded with the first request. */
export default {
  async fetch(request: Request): Promise<Response> {
    served ??= createGateway();
    return await (await served).fetch(request);
  },
};
