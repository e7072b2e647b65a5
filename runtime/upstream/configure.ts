/** Upstreams as the configuration names them. */
import { type Config, ConfigError } from "../config.ts";
import type { Vocab } from "../model.ts";
import { createUpstream, type Upstream } from "./model.ts";
import type { Replica, UpstreamHost, UpstreamSpec } from "./types.ts";

/** Where a configuration's names lead. */
export interface UpstreamSources {
  /** Reads one environment variable. */
  readonly env: (name: string) => string | undefined;
  /** Vocabularies of the tokenizers that upstreams name, already loaded. */
  readonly tokenizers?: ReadonlyMap<string, Vocab>;
  /** Unix seconds, for listings. */
  readonly created: number;
}

type UpstreamConfig = Config["upstreams"][string];

/** Tokenizers to be loaded before {@link createUpstreams}. */
export function namedTokenizers({ upstreams }: Pick<Config, "upstreams">): readonly string[] {
  const names = Object.values(upstreams).flatMap(({ tokenizer }) => tokenizer ?? []);
  return [...new Set(names)];
}

/**
 * The configured upstreams, in order. Nothing is sent and no timer is set: until `probe` is called, an
 * upstream passes for what its engine is known to be.
 *
 * @throws {ConfigError} naming the key that cannot be used
 */
export function createUpstreams(
  config: Pick<Config, "upstreams">,
  host: UpstreamHost,
  sources: UpstreamSources,
): Upstream[] {
  return Object.entries(config.upstreams).map(([id, one]) =>
    createUpstream(specOf(id, one, sources), host, sources.created)
  );
}

function specOf(
  id: string,
  one: UpstreamConfig,
  { env, tokenizers }: UpstreamSources,
): UpstreamSpec {
  const key = `upstreams.${id}`;
  if (one.kind === "completions" && one.tokenizer === undefined) {
    throw new ConfigError(
      `${key}.tokenizer`,
      `Invalid "${key}": kind "completions" needs a tokenizer, which tells what token ids mean`,
    );
  }
  const vocab = one.tokenizer === undefined ? undefined : tokenizers?.get(one.tokenizer);
  if (one.tokenizer !== undefined && !vocab) {
    throw new ConfigError(
      `${key}.tokenizer`,
      `Invalid "${key}.tokenizer": tokenizers cannot be loaded here`,
    );
  }
  const { capabilities, timeouts, retries, breaker, health } = one;
  return {
    id,
    engine: one.engine,
    kind: one.kind,
    replicas: one.replicas.map((replica, index) =>
      replicaOf(replica, { id, model: one.model, key: `${key}.replicas.${index}`, env })
    ),
    vocab,
    contextLength: one.context,
    declared: {
      ...capabilities.n === undefined ? {} : { n: capabilities.n },
      ...capabilities.logprobs === undefined ? {} : {
        chatLogprobs: orNone(capabilities.logprobs),
        completionLogprobs: orNone(capabilities.logprobs),
      },
      ...capabilities.token_ids === undefined ? {} : { tokenIds: capabilities.token_ids },
      ...capabilities.seed === undefined ? {} : { seed: capabilities.seed },
      ...capabilities.logit_bias === undefined ? {} : { logitBias: capabilities.logit_bias },
      ...capabilities.formats === undefined ? {} : { formats: new Set(capabilities.formats) },
      ...capabilities.sampling === undefined ? {} : { sampling: new Set(capabilities.sampling) },
    },
    probe: one.probe,
    affinity: one.affinity,
    queue: one.queue,
    timeouts: {
      connectMs: timeouts.connect_ms,
      firstByteMs: timeouts.first_byte_ms,
      idleMs: timeouts.idle_ms,
    },
    retries: {
      attempts: retries.attempts,
      budget: retries.budget,
      baseMs: retries.base_ms,
      maxMs: retries.max_ms,
    },
    breaker: { failures: breaker.failures, openMs: breaker.open_ms },
    health: { path: health.path, intervalMs: health.interval_ms },
    hedgeMs: one.hedge_ms,
  };
}

/** -1 stands for none, so that 0 can mean the chosen token's alone. */
function orNone(most: number): number | undefined {
  return most < 0 ? undefined : most;
}

function replicaOf(
  { url, key_env: keyEnv, model, weight, priority, max_connections: maxConnections }:
    UpstreamConfig["replicas"][number],
  options: {
    readonly id: string;
    readonly model: string | undefined;
    readonly key: string;
    readonly env: (name: string) => string | undefined;
  },
): Replica {
  const key = keyEnv === undefined ? undefined : options.env(keyEnv)?.trim();
  if (keyEnv !== undefined && !key) {
    throw new ConfigError(
      `${options.key}.key_env`,
      `Invalid "${options.key}.key_env": the environment variable ${keyEnv} is empty`,
    );
  }
  return {
    url: url.replace(/\/+$/, ""),
    key,
    model: model ?? options.model ?? options.id,
    weight,
    priority,
    maxConnections,
  };
}
