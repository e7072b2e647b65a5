/** The part of the configuration about models that are computed elsewhere. */
import * as z from "zod";

const envName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/);

const address = z.url({ protocol: /^https?$/ })
  .refine((text) => !URL.canParse(text) || isPlain(new URL(text)), {
    message: "must have no user, query or fragment: keys go into key_env",
  });

function isPlain({ username, password, search, hash }: URL): boolean {
  return username === "" && password === "" && search === "" && hash === "";
}

const replica = z.strictObject({
  url: address.describe("Base address up to /v1, e.g. http://10.0.0.5:8000/v1"),
  key_env: envName.optional()
    .describe("Name of the environment variable with the key this server wants"),
  model: z.string().min(1).optional().describe("The model's name there, if it differs"),
  weight: z.number().gt(0).max(1000).default(1).describe("Share of the load, beside the others"),
  priority: z.int().min(0).max(100).default(0)
    .describe("Used only while no replica of a lower number can take the request"),
  max_connections: z.int().min(1).max(100_000).default(64).describe("Calls at once"),
});

const capabilities = z.strictObject({
  n: z.boolean().optional().describe("Whether one call may return several choices"),
  logprobs: z.int().min(-1).max(1000).optional()
    .describe("Most top_logprobs; 0 = only the chosen token's, -1 = no log-probabilities"),
  token_ids: z.boolean().optional()
    .describe("Whether completions take and return token ids"),
  seed: z.boolean().optional(),
  logit_bias: z.boolean().optional(),
  sampling: z.array(z.enum(["top_k", "min_p", "typical_p", "repetition_penalty"])).optional()
    .describe("Sampling fields beyond the API's own that it honours"),
  formats: z.array(z.enum(["json_schema", "regex", "choice", "grammar"])).optional()
    .describe("Forms of text that it keeps its answers to"),
});

const timeouts = z.strictObject({
  connect_ms: z.int().min(10).max(600_000).default(5_000)
    .describe("Until a server is known to be there; also for probes"),
  first_byte_ms: z.int().min(10).max(3_600_000).default(120_000)
    .describe("Until an answer begins; long prompts take long"),
  idle_ms: z.int().min(10).max(3_600_000).default(60_000)
    .describe("Longest silence in the middle of an answer"),
});

const retries = z.strictObject({
  attempts: z.int().min(1).max(10).default(3)
    .describe("Calls per request before its first token, the first one included"),
  budget: z.number().min(0).max(1).default(0.2)
    .describe("Retries per request on average: keeps a failing fleet from being flooded"),
  base_ms: z.int().min(1).max(60_000).default(100)
    .describe("First pause before the same server is tried again; doubles, with full jitter"),
  max_ms: z.int().min(1).max(600_000).default(5_000)
    .describe("Longest pause, also of what Retry-After asks for"),
});

const breaker = z.strictObject({
  failures: z.int().min(1).max(1000).default(5).describe("Failures in a row that open the circuit"),
  open_ms: z.int().min(1).max(3_600_000).default(10_000)
    .describe("How long a server is then left alone before one call may try"),
});

const health = z.strictObject({
  path: z.string().regex(/^\/[^/\s]?\S*$/).optional()
    .describe("What to ask for, from the server's root, e.g. /health; default: the model listing"),
  interval_ms: z.int().min(0).max(3_600_000).default(10_000).describe("0 = never ask"),
});

/** One model that other servers compute. */
export const upstreamSchema = z.strictObject({
  model: z.string().min(1).optional().describe("The model's name there; default: its public id"),
  engine: z.enum(["auto", "openai", "vllm", "sglang", "llama.cpp", "ollama", "lmstudio", "decant"])
    .default("auto").describe("What runs there; auto asks"),
  kind: z.enum(["auto", "chat", "completions"]).default("auto").describe(
    "Route that carries generations; completions goes token by token and needs a tokenizer",
  ),
  replicas: z.array(replica).min(1).max(1000).describe("Servers that answer alike"),
  tokenizer: z.string().min(1).optional().describe(
    "Embedded id, local folder or hf:org/repo whose tokenizer is the model's own",
  ),
  context: z.int().min(16).max(100_000_000).optional()
    .describe("Longest sequence in tokens; default: what the server says"),
  capabilities: capabilities.prefault({}).describe("What to believe instead of asking"),
  probe: z.boolean().default(true)
    .describe("Ask with two one-token completions at the start what the server can do"),
  affinity: z.boolean().default(true)
    .describe("Send the same conversation to the same replica, for its prefix cache"),
  queue: z.int().min(0).max(100_000).default(64)
    .describe("Calls that may wait for a connection; more get 429"),
  timeouts: timeouts.prefault({}),
  retries: retries.prefault({}),
  breaker: breaker.prefault({}),
  health: health.prefault({}),
  hedge_ms: z.int().min(1).max(600_000).optional().describe(
    "Start a second call elsewhere after so long without text, keep the faster; default: never",
  ),
});
