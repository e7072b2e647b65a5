/**
 * Decant: an OpenAI-compatible gateway that lets every request choose how the model decodes.
 *
 * Only this file and those beside it see every floor: it reads the configuration and loads models,
 * `serving.ts` and `wiring.ts` make the app.
 *
 * @example A gateway without a port
 * ```ts ignore
 * await using gateway = await createGateway({ models: ["decant-tiny"] });
 * const response = await gateway.fetch(new Request("http://localhost/v1/models"));
 * ```
 */
import { type FastReadback, readbackMode } from "./gpu_readback.ts";
import { hubOptions } from "./hub.ts";
import { readKeys, requireStrategy } from "./keys.ts";
import { LocalModels, MemoryBudgetError } from "./local_models.ts";
import { loadPredicates } from "./opened.ts";
import type { LogEvent } from "./routes/mod.ts";
import { createCompileWorker, type HubOptions, selectBackend } from "./runtime/local.ts";
import {
  type Config,
  ConfigError,
  type ConfigInput,
  type ModelInfo,
  parseConfig,
  type Upstream,
  type UpstreamHost,
} from "./runtime/mod.ts";
import { closeProcess, type Process, serve, type Serving } from "./serving.ts";
import { createVia } from "./upstream_host.ts";
import { compilerFor, requireSafeBinding } from "./wiring.ts";

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
  /** Whether results of a GPU may come back without a wait. @default they wait */
  readonly fastReadback?: FastReadback;
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
  /**
   * Makes /ready answer 503 and refuses new requests; running ones may go on for `limits.drain_ms`
   * and are then ended by an error event.
   */
  drain(): void;
  /**
   * Takes on another configuration: keys, limits, aliases, models, upstreams. Requests that run go on
   * as they began. Nothing changes if it throws.
   *
   * @throws {ConfigError} naming what cannot be used, or what only a restart can change
   */
  reload(input: ConfigInput): Promise<void>;
}

/** Version of the gateway, as deno.json says. */
export const version = "0.1.0";

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
  const config = checkedConfig(input, options);
  const { log = () => {}, thread = "worker" } = options;
  const backend = await backendName(config.backend, log);
  const readback = backend === "webgpu"
    ? await readbackMode(config.gpu_readback, options.fastReadback)
    : "await";
  const hub = () => hubOptions(config, options.env ?? (() => undefined), options.onProgress);
  const locals = new LocalModels({ config, backend, thread, readback, hub, log });
  const process: Process = {
    options,
    version,
    via: createVia(),
    locals,
    predicates: await loadPredicates(config),
    constraints: compilerFor(config, thread === "own" ? undefined : createCompileWorker()),
    kv: config.rates === "kv" ? await Deno.openKv(config.rates_path) : undefined,
    state: { isReady: true, end: new AbortController() },
  };
  try {
    for (const text of config.models) await loadAtStart(locals, text);
    return new RunningGateway(process, backend, await serve(process, config, undefined));
  } catch (error) {
    await closeProcess(process);
    throw error;
  }
}

class RunningGateway implements Gateway {
  readonly backend: string;
  readonly #process: Process;
  #serving: Serving;
  #drainTimer: ReturnType<typeof setTimeout> | undefined;
  /** Reloads follow each other. */
  #tail: Promise<void> = Promise.resolve();

  constructor(process: Process, backend: string, serving: Serving) {
    this.#process = process;
    this.backend = backend;
    this.#serving = serving;
  }

  get config(): Config {
    return this.#serving.config;
  }

  get models(): readonly ModelInfo[] {
    return this.#serving.catalog.list();
  }

  fetch(request: Request): Response | Promise<Response> {
    return this.#serving.app.fetch(request);
  }

  drain(): void {
    const { state } = this.#process;
    if (!state.isReady) return;
    state.isReady = false;
    const end = () => state.end.abort();
    this.#drainTimer = setTimeout(end, this.config.limits.drain_ms);
  }

  reload(input: ConfigInput): Promise<void> {
    const done = this.#tail.then(() => this.#reload(input));
    this.#tail = done.catch(() => {});
    return done;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#drainTimer);
    this.#process.state.isReady = false;
    await this.#tail;
    for (const upstream of this.#serving.upstreams) upstream[Symbol.dispose]();
    await closeProcess(this.#process);
  }

  async #reload(input: ConfigInput): Promise<void> {
    const { locals, options } = this.#process;
    const before = this.#serving;
    const config = checkedConfig(input, options);
    requireReloadable(before.config, config);
    const fresh = config.models.filter((text) => locals.find(text) === undefined);
    locals.configure(config);
    try {
      for (const text of fresh) await loadAtStart(locals, text);
      this.#serving = await serve(this.#process, config, before);
    } catch (error) {
      locals.configure(before.config);
      for (const text of fresh) await locals.unload(text);
      throw error;
    }
    const isKept = (upstream: Upstream) => this.#serving.upstreams.includes(upstream);
    for (const upstream of before.upstreams) if (!isKept(upstream)) upstream[Symbol.dispose]();
    const gone = before.config.models.filter((text) => !locals.names.includes(text));
    for (const text of gone) await locals.unload(text);
  }
}

/** @throws {ConfigError} for everything that can be seen without loading a model */
function checkedConfig(input: ConfigInput, { env = () => undefined }: GatewayOptions): Config {
  const config = parseConfig(input, "configuration");
  requireStrategy("default_strategy", config.default_strategy, {});
  requireSafeBinding(config);
  readKeys(config, env);
  return config;
}

/** Keys that the process is built on. */
const fixedKeys = [
  "host",
  "port",
  "backend",
  "context",
  "kv_bytes",
  "weights",
  "cache_dir",
  "rates",
  "rates_path",
  "predicates",
] as const;

/** @throws {ConfigError} */
function requireReloadable(before: Config, after: Config): void {
  const changed = fixedKeys.find((key) =>
    JSON.stringify(before[key]) !== JSON.stringify(after[key])
  );
  if (changed === undefined) return;
  throw new ConfigError(changed, `Cannot change "${changed}" while the gateway runs: restart it`);
}

/** At the start a budget that is too small is a mistake in the configuration. */
async function loadAtStart(locals: LocalModels, text: string): Promise<void> {
  if (locals.find(text) !== undefined) {
    throw new ConfigError("models", `Invalid "models": "${text}" is given twice`);
  }
  try {
    await locals.load(text, { evict: false });
  } catch (error) {
    if (!(error instanceof MemoryBudgetError)) throw error;
    throw new ConfigError("memory_bytes", `Invalid "memory_bytes": ${error.message}`);
  }
}

/** The backend that a setting stands for on this machine. @throws {NotFoundError} */
async function backendName(setting: string, log: (event: LogEvent) => void): Promise<string> {
  using backend = await selectBackend(
    setting,
    {},
    (skipped, reason) => log({ level: "info", event: "backend_skipped", backend: skipped, reason }),
  );
  return backend.name;
}

let served: Promise<Gateway> | undefined;

/** For `deno serve mod.ts`: the default configuration, loaded with the first request. */
export default {
  async fetch(request: Request): Promise<Response> {
    served ??= createGateway();
    return await (await served).fetch(request);
  },
};
