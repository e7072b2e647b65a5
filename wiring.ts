/**
 * From a configuration to what the HTTP floor is given. Web standards only: `mod.ts` and `edge.ts`
 * both go through here.
 */
import {
  type Admin,
  type AppDeps,
  defaultLimits,
  type KeyGrant,
  type Limits,
} from "./routes/mod.ts";
import {
  type Catalog,
  type CompileChannel,
  type Config,
  ConfigError,
  type ConstraintCompiler,
  constraintLimits,
  createConstraintCompiler,
  createSha256,
  type UpstreamHost,
} from "./runtime/mod.ts";
import { type Calibration, getStrategy, parseCalibration, parseParams } from "./strategies/mod.ts";

/** What the configuration does not say. */
export interface Parts extends
  Pick<
    AppDeps,
    | "catalog"
    | "isReady"
    | "isDraining"
    | "endSignal"
    | "engineStats"
    | "rates"
    | "log"
    | "predicates"
    | "via"
  > {
  readonly version: string;
  /** @default compiles in this thread */
  readonly constraints?: ConstraintCompiler | undefined;
  readonly env: (name: string) => string | undefined;
  /** What administration can do, where there is a key for it. */
  readonly admin?: Omit<Admin, "digest"> | undefined;
}

/** @throws {ConfigError} if keys or aliases stand for something that is not there */
export function appDeps(config: Config, { env, admin, ...parts }: Parts): AppDeps {
  const { admin_key_env: adminKey } = config;
  const served = parts.catalog.list().map(({ id }) => id);
  return {
    ...parts,
    constraints: parts.constraints ?? compilerFor(config),
    ...admin === undefined || adminKey === undefined ? {} : {
      admin: { ...admin, digest: readSecret("admin_key_env", adminKey, env) },
    },
    apiKeys: readKeys(config, env),
    keys: readGrants(config, env, served),
    aliases: readAliases(config, parts.catalog),
    calibrations: readCalibrations(config),
    defaults: { strategy: config.default_strategy },
    allowedHosts: isLoopback(config.host) ? [...loopbackNames, ...config.allowed_hosts] : undefined,
    corsOrigins: config.allowed_origins,
    limits: readLimits(config),
    strictFields: config.strict,
    via: parts.via ?? ourVia(),
    clock: {
      unixSeconds: () => Math.floor(Date.now() / 1000),
      unixMs: () => performance.timeOrigin + performance.now(),
      monotonicMs: () => performance.now(),
      after(ms, run) {
        const timer = setTimeout(run, ms);
        return () => clearTimeout(timer);
      },
    },
    newId: () => crypto.randomUUID().replaceAll("-", ""),
    randomSeed: () => crypto.getRandomValues(new BigUint64Array(1))[0]!,
  };
}

/** Compiles constraints within the configured limits; without a channel, in this thread. */
export function compilerFor(config: Config, channel?: CompileChannel): ConstraintCompiler {
  const { limits } = config;
  const pattern = { maxRepeat: limits.pattern_repeat, maxPatternBytes: limits.pattern_bytes };
  return createConstraintCompiler({
    channel,
    limitMs: limits.constraint_ms,
    limits: {
      schema: {
        ...constraintLimits.schema,
        ...pattern,
        maxBytes: limits.schema_bytes,
        maxDepth: limits.schema_depth,
        maxProperties: limits.schema_properties,
        maxEnumValues: limits.schema_values,
        maxReferences: limits.schema_references,
      },
      regex: { ...constraintLimits.regex, ...pattern },
      maxBytes: limits.schema_bytes,
      maxChoices: limits.schema_values,
    },
  });
}

/** @throws {ConfigError} for a calibration that is not one; files have been read before */
function readCalibrations({ calibrations }: Config): ReadonlyMap<string, Calibration> {
  return new Map(
    Object.entries(calibrations).map(([name, value]) => {
      const key = `calibrations.${name}`;
      if (typeof value === "string") {
        throw new ConfigError(key, `Invalid "${key}": files cannot be read here, give the content`);
      }
      try {
        return [name, parseCalibration(value)];
      } catch (error) {
        throw new ConfigError(key, `Invalid "${key}": ${(error as Error).message}`);
      }
    }),
  );
}

/** What upstreams need of the platform. */
export function upstreamHost(
  log: AppDeps["log"],
  { fetch: send = fetch, via, turn, gatherMs }: {
    /** @default the platform's */
    readonly fetch?: UpstreamHost["fetch"];
    /** @default the process's */
    readonly via?: string;
    /** @default the platform has nothing so quick */
    readonly turn?: NonNullable<UpstreamHost["turn"]>;
    /** @default events do not wait for each other */
    readonly gatherMs?: number;
  } = {},
): UpstreamHost {
  return {
    fetch: (url, init) => {
      const headers = { ...init.headers, via: via ?? ourVia() };
      return send(url, { ...init, headers });
    },
    now: () => performance.now(),
    wallMs: () => Date.now(),
    after(ms, run) {
      const timer = setTimeout(run, ms);
      return () => clearTimeout(timer);
    },
    random: () => crypto.getRandomValues(new Uint32Array(1))[0]! / 4294967296,
    ...turn ? { turn } : {},
    ...gatherMs === undefined ? {} : { gatherMs },
    log: ({ level, event, upstream, replica, detail }) =>
      log({ level, event, upstream, replica, ...detail === undefined ? {} : { detail } }),
  };
}

/** How one gateway calls itself towards upstreams; it refuses requests that come back with it. */
export function createVia(): string {
  return `1.1 decant-${crypto.randomUUID().slice(0, 8)}`;
}

/** The name of a process with one gateway, made late: edge platforms have no randomness at the start. */
function ourVia(): string {
  return processVia ??= createVia();
}

let processVia: string | undefined;

const loopbackNames = ["localhost", "127.0.0.1", "[::1]"];

/** Whether an address can only be reached from this machine. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || host === "[::1]" ||
    /^127(\.\d{1,3}){3}$/.test(host);
}

/** @throws {ConfigError} if anybody could reach a gateway without keys */
export function requireSafeBinding(config: Config): void {
  const hasKeys = config.api_key_env !== undefined || Object.keys(config.keys).length > 0;
  if (isLoopback(config.host) || hasKeys || config.insecure) return;
  throw new ConfigError(
    "host",
    `Cannot listen on "${config.host}" without an API key: name one with --api-key-env, ` +
      "or allow it with --insecure",
  );
}

/** SHA-256 digests of the configured keys. @throws {ConfigError} if the variable is empty */
export function readKeys(config: Config, env: (name: string) => string | undefined): Uint8Array[] {
  if (config.api_key_env === undefined) return [];
  const keys = (env(config.api_key_env) ?? "").split(",").map((key) => key.trim()).filter(Boolean);
  if (keys.length === 0) {
    throw new ConfigError(
      "api_key_env",
      `Invalid "api_key_env": the environment variable ${config.api_key_env} is empty`,
    );
  }
  return keys.map(digestOf);
}

/**
 * What each key of `keys` may do.
 *
 * @throws {ConfigError} if a variable is empty, or a name stands for nothing that is served
 */
export function readGrants(
  config: Config,
  env: (name: string) => string | undefined,
  served: readonly string[],
): KeyGrant[] {
  const models = [...served, ...Object.keys(config.aliases)];
  const grants = Object.entries(config.keys).map(([name, key]): KeyGrant => {
    const missing = key.models?.find((model) => !models.includes(model));
    if (missing !== undefined) {
      throw new ConfigError(`keys.${name}`, `Invalid "keys.${name}": "${missing}" is not served`);
    }
    for (const strategy of [...key.strategies ?? [], key.strategy ?? config.default_strategy]) {
      requireStrategy(`keys.${name}`, strategy, {});
    }
    const room = {
      running: key.running ?? config.limits.key_running,
      queued: key.queued ?? config.limits.key_queued,
    };
    return {
      digest: readSecret(`keys.${name}.env`, key.env, env),
      models: key.models,
      strategies: key.strategies,
      strategy: key.strategy,
      requestsPerMinute: key.requests_per_minute,
      tokensPerMinute: key.tokens_per_minute,
      room,
    };
  });
  const distinct = new Set(grants.map(({ digest }) => digest.toHex()));
  if (distinct.size < grants.length) {
    throw new ConfigError("keys", 'Invalid "keys": two names stand for the same key');
  }
  return grants;
}

/** Digest of the key in an environment variable. @throws {ConfigError} if it is empty */
export function readSecret(
  key: string,
  name: string,
  env: (name: string) => string | undefined,
): Uint8Array {
  const secret = env(name)?.trim() ?? "";
  if (secret === "") {
    throw new ConfigError(key, `Invalid "${key}": the environment variable ${name} is empty`);
  }
  return digestOf(secret);
}

function digestOf(secret: string): Uint8Array {
  return Uint8Array.fromHex(createSha256().update(secret).hex());
}

/** Refused at the start, not with every request. @throws {ConfigError} */
export function requireStrategy(
  key: string,
  name: string,
  params: Readonly<Record<string, unknown>>,
) {
  try {
    parseParams(getStrategy(name), params);
  } catch (error) {
    throw new ConfigError(key, `Invalid "${key}": ${(error as Error).message}`);
  }
}

function readAliases(config: Config, catalog: Catalog): AppDeps["aliases"] {
  const served = new Set(catalog.list().map((model) => model.id));
  for (const [name, alias] of Object.entries(config.aliases)) {
    const models = [alias.model, ...Object.values(alias.models ?? {})];
    const missing = models.find((model) => !served.has(model));
    if (missing !== undefined) {
      throw new ConfigError(
        `aliases.${name}`,
        `Invalid "aliases.${name}": "${missing}" is not served`,
      );
    }
    if (served.has(name)) {
      throw new ConfigError(`aliases.${name}`, `Invalid "aliases.${name}": a model has this name`);
    }
    const strategy = alias.strategy ?? config.default_strategy;
    requireStrategy(`aliases.${name}`, strategy, alias.params ?? {});
  }
  return new Map(
    Object.entries(config.aliases).map(([name, { model, strategy, params, models }]) => [name, {
      model,
      ...(strategy === undefined ? {} : { strategy }),
      ...(params === undefined ? {} : { params }),
      ...(models === undefined ? {} : { models }),
    }]),
  );
}

function readLimits({ limits }: Config): Limits {
  return {
    ...defaultLimits,
    bodyBytes: limits.body_bytes,
    bodyIdleMs: limits.body_idle_ms,
    bodyTotalMs: limits.body_total_ms,
    requestMs: limits.request_ms,
    choices: limits.choices,
    sequences: limits.sequences,
    requestsPerModel: limits.running,
    queuedPerModel: limits.queued,
    perKey: { running: limits.key_running, queued: limits.key_queued },
  };
}
