/** Keys and aliases of a configuration: which secrets they are, and that they stand for something. */
import type { AppDeps, KeyGrant } from "./routes/mod.ts";
import { type Catalog, type Config, ConfigError, createSha256 } from "./runtime/mod.ts";
import { getStrategy, parseParams } from "./strategies/mod.ts";

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

/** What other names of models stand for. @throws {ConfigError} for a name that stands for nothing */
export function readAliases(config: Config, catalog: Catalog): AppDeps["aliases"] {
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
