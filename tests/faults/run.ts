// deno-lint-ignore-file camelcase -- names as in the configuration
/** Runs every fault through a gateway, alone and with a second server behind it. */
import { createGateway, type Gateway } from "../../mod.ts";
import { type FakeServer, serveFaults } from "../fakes/fake_upstream_server.ts";
import { type Mode, modes } from "./modes.ts";

/** What came of a fault, asked for in one way. */
export interface Outcome {
  readonly status: number;
  /** Text that arrived. */
  readonly text: string;
  /** Code of the error answer or event. */
  readonly code: string | undefined;
  /** Whether a finish reason came. */
  readonly finished: boolean;
  readonly fallbacks: number;
  /** Everything that arrived, to look for what must not be there. */
  readonly raw: string;
}

/** Outcomes of one mode. */
export interface Trial {
  readonly mode: Mode;
  readonly streamed: Outcome;
  readonly whole: Outcome;
  /** With a server that works behind the faulty one. */
  readonly withFallback: Outcome;
  /** Bytes the faulty server got rid of. */
  readonly taken: number;
}

/** The key every request to the servers carries. */
export const canary = "sk-canary-4711";
/** No request may run into it. */
export const deadlineMs = 20_000;

/** Short where silence is the fault; otherwise long enough for any machine. */
function timeoutsOf({ code }: Mode) {
  return code === "upstream_timeout"
    ? { connect_ms: 2000, first_byte_ms: 2500, idle_ms: 2500 }
    : { connect_ms: 15_000, first_byte_ms: 15_000, idle_ms: 15_000 };
}

/** Runs all modes side by side. */
export async function runFaults(): Promise<{
  readonly trials: readonly Trial[];
  readonly server: Pick<FakeServer, "open" | "keys">;
  readonly running: number;
  readonly log: string;
}> {
  await using server = serveFaults(new Map(modes.map(({ name, fault }) => [name, fault])));
  const log: string[] = [];
  await using gateway = await open(server, log);
  const trials: Trial[] = [];
  let next = 0;
  const work = async () => {
    for (let i = next++; i < modes.length; i = next++) {
      if (modes[i]!.bytes === undefined) trials[i] = await tryMode(gateway, server, modes[i]!, i);
    }
  };
  await Promise.all(Array.from({ length: 12 }, work));
  for (const [i, mode] of modes.entries()) {
    // One after the other: each keeps the thread busy.
    if (mode.bytes !== undefined) trials[i] = await tryMode(gateway, server, mode, i);
  }
  await server.idle();
  return {
    trials,
    server: { open: server.open, keys: new Set(server.keys) },
    running: await runningNow(gateway),
    log: log.join("\n"),
  };
}

function open(server: FakeServer, log: string[]): Promise<Gateway> {
  const shared = {
    engine: "openai" as const,
    probe: false,
    health: { interval_ms: 0 },
    breaker: { failures: 1000 },
  };
  const replica = { url: server.url, key_env: "KEY", max_connections: 64 };
  const alone = modes.map((mode, i) => [`alone${i}`, {
    ...shared,
    timeouts: timeoutsOf(mode),
    retries: { attempts: 1 },
    replicas: [{ ...replica, model: mode.name }],
  }]);
  const backed = modes.map((mode, i) => [`backed${i}`, {
    ...shared,
    timeouts: timeoutsOf(mode),
    retries: { attempts: 2 },
    replicas: [{ ...replica, model: mode.name }, { ...replica, model: "works", priority: 1 }],
  }]);
  return createGateway(
    { models: [], backend: "cpu", upstreams: Object.fromEntries([...alone, ...backed]) },
    {
      env: (name) => name === "KEY" ? canary : undefined,
      log: (event) => void log.push(JSON.stringify(event)),
    },
  );
}

async function tryMode(
  gateway: Gateway,
  server: FakeServer,
  mode: Mode,
  index: number,
): Promise<Trial> {
  const streamed = await ask(gateway, `alone${index}`, true);
  const taken = server.taken.get(mode.name) ?? 0;
  const whole = await ask(gateway, `alone${index}`, false);
  const withFallback = await ask(gateway, `backed${index}`, true);
  return { mode, streamed, whole, withFallback, taken };
}

async function ask(gateway: Gateway, model: string, stream: boolean): Promise<Outcome> {
  const response = await gateway.fetch(
    new Request("http://localhost/v1/chat/completions", {
      method: "POST",
      headers: {
        "content-type": "application/json",
        "x-request-timeout-ms": String(deadlineMs),
      },
      body: JSON.stringify({ model, stream, messages: [{ role: "user", content: "hi" }] }),
    }),
  );
  const raw = await response.text();
  const { status } = response;
  const fallbacks = Number(response.headers.get("x-fallbacks") ?? 0);
  return { status, fallbacks, raw, ...status === 200 && stream ? readStream(raw) : readWhole(raw) };
}

function readStream(raw: string) {
  let text = "";
  let code: string | undefined;
  let finished = false;
  const frames = raw.split("\n\n");
  if (frames.at(-2) !== "data: [DONE]") throw new Error("the stream has no end");
  for (const frame of frames.slice(0, -2)) {
    if (frame.startsWith(":")) continue;
    const event = JSON.parse(frame.slice("data: ".length));
    code ??= event.error?.code;
    text += event.choices?.[0]?.delta?.content ?? "";
    finished ||= Boolean(event.choices?.[0]?.finish_reason);
  }
  return { text, code, finished };
}

function readWhole(raw: string) {
  const body = JSON.parse(raw);
  const [choice] = body.choices ?? [];
  return {
    text: choice?.message.content ?? "",
    code: body.error?.code,
    finished: Boolean(choice?.finish_reason),
  };
}

async function runningNow(gateway: Gateway): Promise<number> {
  const response = await gateway.fetch(new Request("http://localhost/metrics"));
  const lines = (await response.text()).split("\n");
  return lines
    .filter((line) => line.startsWith("decoding_gateway_requests_running"))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}

/** What is wrong with a trial; nothing = the mode was survived. */
export function complaints({ mode, streamed, whole, withFallback, taken }: Trial): string[] {
  const wrong: string[] = [];
  const expect = (what: string, got: unknown, wanted: unknown) => {
    if (got !== wanted) {
      wrong.push(`${what}: ${JSON.stringify(got)}, not ${JSON.stringify(wanted)}`);
    }
  };
  const isFine = mode.when === "fine";
  const isLate = mode.when === "late";
  expect("streamed text", streamed.text, mode.text);
  expect("streamed code", streamed.code, mode.code);
  // After a second of silence a stream has its head, and the rest is said in events.
  const isSilent = mode.code === "upstream_timeout";
  expect("streamed status", streamed.status, isFine || isLate || isSilent ? 200 : mode.status);
  if (mode.status !== undefined) expect("whole status", whole.status, mode.status);
  expect("streamed finish", streamed.finished, isFine);
  expect("whole code", whole.code, mode.code);
  if (isFine) expect("whole text", whole.text, mode.text);
  else expect("whole is no success", whole.status >= 400, true);
  const isSaved = mode.when === "early";
  expect("text with another server", withFallback.text, isSaved ? "fallback works" : mode.text);
  if (!isSilent) expect("fallbacks", withFallback.fallbacks, isSaved ? 1 : 0);
  if (mode.bytes !== undefined && taken > mode.bytes) wrong.push(`${taken} bytes were read`);
  for (const { raw } of [streamed, whole, withFallback]) {
    for (const secret of [canary, "secret", "127.0.0.1"]) {
      if (raw.includes(secret)) wrong.push(`${secret} is in the answer`);
    }
  }
  return wrong;
}

/** Characters a client should have got and did not, or got and should not have. */
export function lost({ mode, streamed }: Trial): number {
  return Math.abs(mode.text.length - streamed.text.length);
}
