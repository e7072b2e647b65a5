/**
 * From a configuration to what the HTTP floor is given. Web standards only: `mod.ts` and `edge.ts`
 * both go through here.
 */
import { readAliases, readGrants, readKeys, readSecret } from "./keys.ts";
import { type Admin, type AppDeps, defaultLimits, type Limits } from "./routes/mod.ts";
import {
  type CompileChannel,
  type Config,
  ConfigError,
  type ConstraintCompiler,
  constraintLimits,
  createConstraintCompiler,
} from "./runtime/mod.ts";
import { type Calibration, parseCalibration } from "./strategies/mod.ts";
import { ourVia } from "./upstream_host.ts";

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
