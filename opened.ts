/** What a configuration names beside models: predicates, calibrations and upstreams, read and opened. */
import { pathToFileURL } from "node:url";
import { hubOptions } from "./hub.ts";
import { embeddedRoot } from "./local_models.ts";
import type { AppDeps } from "./routes/mod.ts";
import {
  createDeadline,
  type HubOptions,
  loadTokenizer,
  resolveModelPath,
} from "./runtime/local.ts";
import {
  type Config,
  ConfigError,
  createUpstreams,
  namedTokenizers,
  type Predicate,
  predicateProblem,
  type Upstream,
  type UpstreamHost,
} from "./runtime/mod.ts";
import { upstreamHost } from "./upstream_host.ts";

/** What opening takes from the outside world. */
export interface OpenOptions {
  readonly onProgress?: HubOptions["onProgress"];
  readonly log?: AppDeps["log"];
  readonly fetch?: UpstreamHost["fetch"];
}

/** The configured predicates. @throws {ConfigError} for a module that is missing or is none */
export async function loadPredicates(config: Config): Promise<AppDeps["predicates"]> {
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
export async function readCalibrations({ calibrations }: Config): Promise<Config["calibrations"]> {
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
export async function openUpstreams(
  config: Config,
  env: (name: string) => string | undefined,
  options: OpenOptions & { readonly via: string },
): Promise<Upstream[]> {
  const double = config.models.find((id) => Object.hasOwn(config.upstreams, id));
  if (double !== undefined) {
    throw new ConfigError("upstreams", `Invalid "upstreams": "${double}" is also among "models"`);
  }
  if (options.fetch === undefined) await requireReachable(config);
  const tokenizers = new Map(
    await Promise.all(
      namedTokenizers(config).map(async (name) => {
        const hub = () => hubOptions(config, env, options.onProgress);
        const { path } = await resolveModelPath(name, { embeddedRoot, hub });
        return [name, await loadTokenizer(path)] as const;
      }),
    ),
  );
  const host = upstreamHost(options.log ?? (() => {}), {
    ...options,
    turn: (run) => void setImmediate(run),
    gatherMs: 1,
  });
  const created = Math.floor(Date.now() / 1000);
  const upstreams = createUpstreams(config, host, { env, tokenizers, created });
  await Promise.all(upstreams.map((upstream) => upstream.probe()));
  for (const upstream of upstreams) upstream.watch();
  return upstreams;
}

/** Said at the start: later it would look like a server that is away. @throws {ConfigError} */
async function requireReachable({ upstreams }: Config): Promise<void> {
  for (const [id, { replicas }] of Object.entries(upstreams)) {
    for (const [index, { url }] of replicas.entries()) {
      const { hostname, port, protocol } = new URL(url);
      const host = `${hostname}:${port || (protocol === "https:" ? 443 : 80)}`;
      const { state } = await Deno.permissions.query({ name: "net", host });
      if (state === "granted") continue;
      const key = `upstreams.${id}.replicas.${index}.url`;
      throw new ConfigError(key, `Cannot use "${key}": start with --allow-net=${host} as well`);
    }
  }
}
