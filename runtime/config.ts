/**
 * The configuration: one object, one schema. Flags and environment variables override single fields
 * in mod.ts; nothing else reads them.
 */
import * as z from "zod";
import { upstreamSchema } from "./config_upstreams.ts";
import { nearest } from "./nearest.ts";

const strategyParams = z.record(z.string(), z.unknown());

const alias = z.strictObject({
  model: z.string().min(1).describe("Id of a served model"),
  strategy: z.string().min(1).optional().describe("Strategy this name stands for"),
  params: strategyParams.optional().describe("Parameters of the strategy"),
  models: z.record(z.string(), z.string()).optional().describe("Models of further roles"),
});

const limits = z.strictObject({
  body_bytes: z.int().min(1024).max(256 * 1024 * 1024).default(4 * 1024 * 1024)
    .describe("Largest request body in bytes; protects memory"),
  body_idle_ms: z.int().min(100).max(600_000).default(5_000)
    .describe("Longest pause while a body arrives, in ms; frees slow senders' places"),
  body_total_ms: z.int().min(100).max(600_000).default(15_000)
    .describe("Longest time for a whole body, in ms"),
  request_ms: z.int().min(100).max(86_400_000).default(600_000)
    .describe("Longest time for a whole request, in ms"),
  choices: z.int().min(1).max(128).default(16).describe("Largest n"),
  sequences: z.int().min(1).max(1024).default(64)
    .describe("Most sequences one request may decode at once"),
  running: z.int().min(1).max(10_000).default(8)
    .describe("Requests one model works on at once"),
  queued: z.int().min(0).max(10_000).default(64)
    .describe("Requests that wait for one model; more get 429"),
  key_running: z.int().min(1).max(10_000).default(4)
    .describe("Requests of one API key at work at once"),
  key_queued: z.int().min(0).max(10_000).default(16)
    .describe("Requests of one API key that wait; more get 429"),
  drain_ms: z.int().min(0).max(3_600_000).default(30_000)
    .describe("How long running requests may go on when the gateway is told to stop, in ms"),
  constraint_ms: z.int().min(10).max(60_000).default(2_000)
    .describe("Longest time to compile one constraint or to check one finished text, in ms"),
  predicate_ms: z.int().min(1).max(10_000).default(50)
    .describe("Longest time of one call of a predicate, in ms; nothing else runs meanwhile"),
  schema_bytes: z.int().min(16).max(16 * 1024 * 1024).default(64 * 1024)
    .describe("Largest JSON Schema, grammar or list of choices in bytes"),
  schema_depth: z.int().min(1).max(256).default(32).describe("Schemas inside each other"),
  schema_properties: z.int().min(1).max(100_000).default(1_000)
    .describe("Properties a schema declares, all objects together"),
  schema_values: z.int().min(1).max(100_000).default(1_000)
    .describe("Values a schema enumerates, and texts of a choice"),
  schema_references: z.int().min(1).max(100_000).default(1_000)
    .describe("References of a schema"),
  pattern_bytes: z.int().min(1).max(1024 * 1024).default(4_096)
    .describe("Longest regular expression in bytes"),
  pattern_repeat: z.int().min(1).max(10_000).default(1_000)
    .describe("Largest number in a counted repetition"),
});

const names = z.array(z.string().min(1).max(256)).min(1).max(1000);
const environmentName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/);

const apiKey = z.strictObject({
  env: environmentName.describe("Name of the environment variable with the key"),
  models: names.optional().describe("Models and aliases the key may use; default: all"),
  strategies: names.optional().describe("Strategies the key may use; default: all"),
  strategy: z.string().min(1).optional().describe("Strategy of its requests that name none"),
  requests_per_minute: z.int().min(1).max(1_000_000).optional(),
  tokens_per_minute: z.int().min(1).max(1_000_000_000).optional()
    .describe("Prompt tokens and drawn ones, whether sent or not"),
  running: z.int().min(1).max(10_000).optional()
    .describe("Requests at work at once; default: limits.key_running"),
  queued: z.int().min(0).max(10_000).optional()
    .describe("Requests that wait; default: limits.key_queued"),
});

/** Every field has a default, so `{}` is a complete configuration. */
export const configSchema = z.strictObject({
  host: z.string().min(1).default("127.0.0.1")
    .describe("Address to listen on; anything but loopback needs api_key_env or insecure"),
  port: z.int().min(0).max(65_535).default(8000).describe("Port to listen on; 0 takes a free one"),
  models: z.array(z.string().min(1)).default(["decant-tiny", "decant-tiny-draft"])
    .describe(
      "Embedded ids, local folders or files, or hf:org/repo[@revision][/file.gguf]; first = default",
    ),
  upstreams: z.record(z.string().min(1).max(256), upstreamSchema).default({})
    .describe("Models computed by other servers, by public id"),
  backend: z.enum(["auto", "webgpu", "wasm", "cpu"]).default("auto")
    .describe("Where models run; auto takes the fastest one that works"),
  threads: z.int().min(1).max(16).optional()
    .describe("Threads per model on the WebAssembly backend; default: physical cores, at most 4"),
  weights: z.enum(["auto", "f32", "f16", "q8", "q4"]).default("auto")
    .describe(
      "How weight matrices are held; auto keeps Q8_0 and Q4_0, rounds other quantised types and " +
        "float files above 256 MiB to 8 bits, and holds smaller ones in f32",
    ),
  gpu_bytes: z.int().min(64 * 1024 * 1024).max(2 ** 40).default(16 * 1024 ** 3)
    .describe("GPU memory one model may take in bytes: weights, KV and results of a step"),
  gpu_kv: z.enum(["f32", "f16"]).default("f32")
    .describe(
      "How keys and values are held on the GPU; f16 takes half the memory, is off by up to 2e-3 of a " +
        "row's largest logit, and serves no KV policy with formats or rules for reading",
    ),
  gpu_readback: z.enum(["auto", "await", "ring", "fast"]).default("auto")
    .describe(
      "How results come back from the GPU; auto: fast where a process of its own proves it, else ring",
    ),
  api_key_env: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/).optional()
    .describe("Name of the environment variable with the API key; several keys: comma-separated"),
  keys: z.record(z.string().regex(/^[A-Za-z0-9_.-]{1,64}$/), apiKey).default({})
    .describe("Further API keys by a name of your choice, and what each may do"),
  admin_key_env: environmentName.optional()
    .describe("Name of the environment variable with the admin key; without it /admin is off"),
  on_demand: z.array(z.string().min(1)).default([])
    .describe("Models that are not loaded at the start, but may be through /admin/models/load"),
  memory_bytes: z.int().min(1024 * 1024).optional()
    .describe("Budget of all models: their files, and kv_bytes for each; default: none"),
  rates: z.enum(["memory", "kv"]).default("memory")
    .describe("Where budgets per minute are counted; kv shares them between instances"),
  rates_path: z.string().min(1).optional()
    .describe("File of the kv store; default: Deno's own for this program"),
  context: z.int().min(16).max(1_048_576).optional()
    .describe("Longest sequence in tokens; default: what the model was trained for"),
  insecure: z.boolean().default(false)
    .describe("Listen beyond loopback without an API key"),
  allowed_hosts: z.array(z.string().min(1)).default([])
    .describe("Further names the Host header may carry when bound to loopback"),
  allowed_origins: z.array(z.string().min(1)).default([])
    .describe("Exact origins that browsers may call from (CORS)"),
  strict: z.boolean().default(false)
    .describe("Refuse request fields we do not know instead of listing them in a header"),
  default_strategy: z.string().min(1).default("sample")
    .describe("Strategy of requests that name none"),
  aliases: z.record(z.string().min(1), alias).default({})
    .describe("Model names that stand for a model with a strategy"),
  calibrations: z.record(
    z.string().regex(/^[\w.-]{1,64}$/),
    z.union([z.string().min(1), z.record(z.string(), z.unknown())]),
  ).default({})
    .describe("Cascade rules by name: files that deno task calibrate wrote, or what is in them"),
  kv_bytes: z.int().min(1024 * 1024).max(64 * 1024 ** 3).default(256 * 1024 * 1024)
    .describe("KV memory per model in bytes; smaller models take less"),
  cache_dir: z.string().min(1).optional()
    .describe("Folder for downloaded models; default: ~/.cache/decant/hub"),
  predicates: z.record(z.string().regex(/^[A-Za-z0-9_.-]{1,64}$/), z.string().min(1)).default({})
    .describe("Constraints by name: paths of TypeScript modules that export complete and prefix"),
  limits: limits.prefault({}),
}).refine(({ models, upstreams }) => models.length > 0 || Object.keys(upstreams).length > 0, {
  path: ["models"],
  message: "there is no model and no upstream to serve",
});

/** A complete configuration. */
export type Config = z.output<typeof configSchema>;
/** What a file or a caller may give: every field optional. */
export type ConfigInput = z.input<typeof configSchema>;

/** A configuration that cannot be used; the message names the key. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  constructor(readonly key: string, message: string) {
    super(message);
  }
}

/**
 * Completes a configuration.
 *
 * @param source what to call it in messages, e.g. "config file"
 * @throws {ConfigError} naming the key, and for unknown keys the nearest known one
 */
export function parseConfig(value: unknown, source: string): Config {
  const result = configSchema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  const path = issue.path.map(String).join(".");
  if (issue.code === "unrecognized_keys") {
    const key = [...issue.path.map(String), issue.keys[0]!].join(".");
    throw new ConfigError(key, `Unknown key "${key}" in the ${source}${suggest(issue.keys[0]!)}`);
  }
  throw new ConfigError(path, `Invalid "${path || "value"}" in the ${source}: ${issue.message}`);
}

/** All keys of the configuration, nested ones too, for suggestions. */
export const configKeys: readonly string[] = [
  ...Object.keys(configSchema.shape),
  ...Object.keys(limits.shape),
  ...Object.keys(alias.shape),
  ...Object.keys(apiKey.shape),
  ...Object.keys(upstreamSchema.shape),
];

function suggest(key: string): string {
  const known = nearest(key, configKeys);
  return known === undefined ? "" : `; the nearest known key is "${known}"`;
}
