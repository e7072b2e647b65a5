/** Command-line flags and environment variables as configuration. */
import { parseArgs } from "node:util";
import { ConfigError, type ConfigInput } from "./config.ts";
import { nearest } from "./nearest.ts";

const flags = {
  host: { type: "string", value: "ADDRESS", help: "address to listen on (127.0.0.1)" },
  port: { type: "string", value: "N", help: "port to listen on (8000)" },
  model: {
    type: "string",
    multiple: true,
    value: "MODEL",
    help: "embedded id, local folder or file, hf:org/repo[@revision][/file.gguf]; repeatable",
  },
  backend: { type: "string", value: "NAME", help: "auto, webgpu, wasm or cpu (auto)" },
  threads: { type: "string", value: "N", help: "threads per model without a GPU (cores, up to 4)" },
  weights: {
    type: "string",
    value: "FORMAT",
    help: "how weights are held: auto, f32, f16, q8 or q4 (auto)",
  },
  config: { type: "string", value: "FILE", help: "JSON file with the same fields and more" },
  "api-key-env": { type: "string", value: "NAME", help: "environment variable with the API key" },
  context: { type: "string", value: "N", help: "longest sequence in tokens" },
  insecure: { type: "boolean", value: "", help: "allow a public address without an API key" },
  help: { type: "boolean", value: "", help: "show this text" },
} as const;

/** What the command line asked for. */
export interface Args {
  /** Fields to lay over the file's. */
  readonly overrides: ConfigInput;
  /** Path of the configuration file. */
  readonly configFile?: string;
  readonly help: boolean;
}

/**
 * Reads flags, and HOST, PORT and DECANT_THREADS from the environment where the flags are silent.
 *
 * @throws {ConfigError} for unknown flags (naming the nearest known one) and bad values
 */
export function readArgs(
  args: readonly string[],
  env: {
    readonly host?: string | undefined;
    readonly port?: string | undefined;
    readonly threads?: string | undefined;
  },
): Args {
  refuseUnknown(args);
  const { values } = parse(args);
  const host = values.host ?? env.host;
  const port = values.port ?? env.port;
  const threads = values.threads ?? env.threads;
  const overrides: ConfigInput = {
    ...(host === undefined ? {} : { host }),
    ...(port === undefined ? {} : { port: integer("port", port) }),
    ...(values.model === undefined ? {} : { models: values.model }),
    ...(values.backend === undefined ? {} : { backend: values.backend as "auto" }),
    ...(threads === undefined ? {} : { threads: integer("threads", threads) }),
    ...(values.weights === undefined ? {} : { weights: values.weights as "auto" }),
    ...(values["api-key-env"] === undefined ? {} : { api_key_env: values["api-key-env"] }),
    ...(values.context === undefined ? {} : { context: integer("context", values.context) }),
    ...(values.insecure === undefined ? {} : { insecure: values.insecure }),
  };
  return {
    overrides,
    help: values.help ?? false,
    ...(values.config === undefined ? {} : { configFile: values.config }),
  };
}

/** The text of --help. */
export function usage(): string {
  const lines = Object.entries(flags).map(([name, flag]) =>
    `  --${name} ${flag.value}`.padEnd(24) + flag.help
  );
  return [
    "Usage: deno task serve [flags]",
    "",
    ...lines,
    "",
    "Environment: HOST, PORT, DECANT_THREADS",
  ].join("\n");
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: flags, strict: true, allowPositionals: false });
  } catch (error) {
    throw new ConfigError("flags", (error as Error).message.replaceAll("'", '"').split("\n")[0]!);
  }
}

function refuseUnknown(args: readonly string[]): void {
  for (const arg of args) {
    if (!arg.startsWith("--") || arg === "--") continue;
    const name = arg.slice(2).split("=")[0]!;
    if (Object.hasOwn(flags, name)) continue;
    throw new ConfigError(
      name,
      `Unknown flag "--${name}"; the nearest known flag is "--${
        nearest(name, Object.keys(flags))
      }"`,
    );
  }
}

function integer(name: string, text: string): number {
  if (!/^\d{1,9}$/.test(text.trim())) {
    throw new ConfigError(name, `Invalid "${name}": expected a whole number, got "${text}"`);
  }
  return Number(text);
}
