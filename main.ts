// deno-lint-ignore-file no-console -- the command-line entry point
/** `deno task serve`: flags, environment and configuration file in; a listening gateway out. */
import { fastReadback, requireVulkan } from "./gpu_readback.ts";
import { type ConfigInput, createGateway, type Gateway, version } from "./mod.ts";
import { readArgs, renderProgress, usage } from "./runtime/local.ts";
import { ConfigError, parseConfig } from "./runtime/mod.ts";
import { listStrategies } from "./strategies/mod.ts";

/** Reads flags, environment and file; later sources win: file, environment, flags. */
async function configure(args: readonly string[]): Promise<ConfigInput | undefined> {
  const { overrides, configFile, help } = readArgs(args, {
    host: Deno.env.get("HOST"),
    port: Deno.env.get("PORT"),
    threads: Deno.env.get("DECANT_THREADS"),
  });
  if (help) return undefined;
  return { ...(configFile === undefined ? {} : await readConfigFile(configFile)), ...overrides };
}

async function readConfigFile(path: string): Promise<ConfigInput> {
  let value: unknown;
  try {
    value = JSON.parse(await Deno.readTextFile(path));
  } catch (error) {
    throw new ConfigError("config", `Cannot read the config file: ${(error as Error).message}`);
  }
  parseConfig(value, "config file");
  return value as ConfigInput;
}

/** The one screen that a start prints. */
export function banner(gateway: Pick<Gateway, "backend" | "models">, url: string): string {
  const count = (n: number) => n >= 1e6 ? `${(n / 1e6).toFixed(1)} M` : `${Math.round(n / 1e3)} K`;
  const models = gateway.models.map(({ id, parameters, contextLength }) =>
    `${id}  ${
      parameters === undefined ? "upstream" : `${count(parameters)} parameters`
    }, context ${contextLength}`
  );
  const body = JSON.stringify({
    model: gateway.models[0]!.id,
    messages: [{ role: "user", content: "What is 27 + 58?" }],
  });
  return [
    `Decant ${version} listens on ${url}`,
    "",
    `  backend     ${gateway.backend}`,
    ...models.map((line, i) => `  ${i === 0 ? "models    " : "          "}  ${line}`),
    `  strategies  ${listStrategies().map((strategy) => strategy.name).join(", ")}`,
    `  pages       ${url}/  ${url}/openapi.json`,
    "",
    "Try:",
    "",
    `  curl ${url}/v1/chat/completions -H 'Content-Type: application/json' \\`,
    `    -H 'X-Decoding-Strategy: beam;num_beams=4' -d '${body}'`,
    "",
  ].join("\n");
}

/** `deno task serve`: starts the gateway and serves until SIGINT or SIGTERM. */
async function main(args: readonly string[]): Promise<void> {
  const input = await configure(args);
  if (input === undefined) return console.log(usage());
  const encoder = new TextEncoder();
  await requireVulkan();
  const gateway = await createGateway(input, {
    env: (name) => Deno.env.get(name),
    fastReadback: await fastReadback(),
    onProgress: (progress) =>
      Deno.stderr.writeSync(encoder.encode(`\r${renderProgress(progress)}`)),
    log,
  });
  // One request's mistake must not end the others'.
  globalThis.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    const { name, stack = "" } = event.reason instanceof Error ? event.reason : new Error();
    const frames = stack.split("\n").filter((line) => /^\s+at /.test(line)).slice(0, 8);
    log({ level: "error", event: "unhandled_rejection", cause: name, stack: frames.join(" |") });
  });
  const { host: hostname, port } = gateway.config;
  using _watcher = watchConfig(args, gateway);
  const server = Deno.serve({
    hostname,
    port,
    onListen: (address) => console.log(banner(gateway, urlOf(address))),
  }, (request) => gateway.fetch(request));
  const stop = () => {
    gateway.drain();
    server.shutdown();
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, stop);
  await server.finished;
  await gateway[Symbol.asyncDispose]();
}

/**
 * Follows the configuration file: saving it, or SIGHUP, reloads it. One that cannot be used changes
 * nothing, and the log says why.
 */
function watchConfig(args: readonly string[], gateway: Gateway): Disposable {
  const { configFile } = readArgs(args, {});
  if (configFile === undefined) return { [Symbol.dispose]() {} };
  async function reload(): Promise<void> {
    try {
      await gateway.reload(await configure(args) ?? {});
      log({ level: "info", event: "config_reloaded" });
    } catch (error) {
      log({ level: "error", event: "config_refused", message: explain(error) });
    }
  }
  // The folder: editors replace files, and a watch on the old one would see nothing more.
  const name = configFile.split(/[/\\]/).at(-1);
  const folder = configFile.slice(0, -name!.length) || ".";
  const watcher = Deno.watchFs(folder, { recursive: false });
  let timer: ReturnType<typeof setTimeout> | undefined;
  (async () => {
    for await (const { paths, kind } of watcher) {
      if (kind === "access" || !paths.some((path) => path.endsWith(`/${name}`))) continue;
      clearTimeout(timer);
      timer = setTimeout(reload, settleMs); // writing takes several events
    }
  })();
  if (Deno.build.os !== "windows") Deno.addSignalListener("SIGHUP", reload);
  return {
    [Symbol.dispose]() {
      clearTimeout(timer);
      watcher.close();
      if (Deno.build.os !== "windows") Deno.removeSignalListener("SIGHUP", reload);
    },
  };
}

/** Pause after the last change of the configuration file, in ms. */
const settleMs = 100;

function log(event: Readonly<Record<string, unknown>>): void {
  console.error(JSON.stringify(event));
}

function urlOf({ hostname, port }: { readonly hostname: string; readonly port: number }): string {
  return `http://${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;
}

/** One clear line for what an operator can mend; anything else keeps its stack. */
function explain(error: unknown): string {
  if (error instanceof Deno.errors.NotCapable) {
    return `${error.message.split("\n")[0]} (add the permission to the serve task)`;
  }
  if (error instanceof Deno.errors.AddrInUse) return "The port is in use: choose another --port";
  const known = [
    "BackendError",
    "ConfigError",
    "FormatError",
    "NotFoundError",
    "RangeError",
    "HubError",
  ];
  if (error instanceof Error && known.includes(error.name)) return error.message;
  return error instanceof Error ? error.stack ?? error.message : String(error);
}

if (import.meta.main) {
  try {
    await main(Deno.args);
  } catch (error) {
    console.error(`decant: ${explain(error)}`);
    Deno.exit(1);
  }
}
