/** A gateway over fakes, for tests of the HTTP floor. */
import {
  type AppDeps,
  type Clock,
  createApp,
  defaultLimits,
  type Limits,
} from "../../routes/mod.ts";
import type { LogEvent } from "../../routes/mod.ts";
import { createCatalog, type LanguageModel, type ModelInfo } from "../../runtime/mod.ts";
import { type FakeModel, fakeModel } from "../fakes/_model.ts";
import { fakeVocab, hashModel } from "../fakes/mod.ts";

/** Printable ASCII, line break, and some characters of two to four bytes. */
export const asciiVocab = fakeVocab({
  pieces: [
    "\n",
    ...Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)),
    ..."éü日本🐕",
  ],
});

/** A time that only moves when told to. */
export interface FakeClock extends Clock {
  /** Moves on, running what falls due in order. */
  advance(ms: number): void;
  /** Timers that are set. */
  readonly pending: number;
}

/** A clock at zero. */
export function fakeClock(): FakeClock {
  let now = 0;
  const timers = new Set<{ due: number; run: () => void }>();
  return {
    unixSeconds: () => 1_700_000_000 + Math.floor(now / 1000),
    unixMs: () => 1_700_000_000_000 + now,
    monotonicMs: () => now,
    after(ms, run) {
      const timer = { due: now + ms, run };
      timers.add(timer);
      return () => void timers.delete(timer);
    },
    advance(ms) {
      const end = now + ms;
      while (true) {
        const [next] = [...timers].filter(({ due }) => due <= end).sort((a, b) => a.due - b.due);
        if (!next) break;
        timers.delete(next);
        now = Math.max(now, next.due);
        next.run();
      }
      now = end;
    },
    get pending() {
      return timers.size;
    },
  };
}

/** What a test may set. */
export interface GatewayOptions extends Partial<Omit<AppDeps, "catalog" | "limits">> {
  readonly models?: readonly LanguageModel[];
  readonly info?: Readonly<Record<string, Partial<ModelInfo>>>;
  readonly limits?: Partial<Limits>;
}

/** A gateway and what tests look at. */
export interface TestGateway {
  readonly app: ReturnType<typeof createApp>;
  readonly clock: FakeClock;
  readonly log: LogEvent[];
  /** Sends JSON, or text as it is. */
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<Response>;
  get(path: string, headers?: Record<string, string>): Promise<Response>;
}

/** The model of most tests: pseudo-random letters that end now and then. */
export function chatModel(options: Parameters<typeof hashModel>[0] = {}): FakeModel {
  return hashModel({ id: "hash", vocab: asciiVocab, ...options });
}

/** A gateway over `models`. Ids and seeds count up; time stands still. */
export function testGateway(options: GatewayOptions = {}): TestGateway {
  const { models = [chatModel()], info = {}, limits, ...rest } = options;
  const clock = fakeClock();
  const log: LogEvent[] = [];
  let ids = 0;
  const deps: AppDeps = {
    catalog: createCatalog(models.map((model) => ({ info: infoOf(model, info[model.id]), model }))),
    aliases: new Map(),
    defaults: { strategy: "sample" },
    apiKeys: [],
    allowedHosts: undefined,
    limits: { ...defaultLimits, ...limits },
    clock,
    newId: () => `id${++ids}`,
    randomSeed: () => 42n,
    isReady: () => true,
    log: (event) => void log.push(event),
    ...rest,
  };
  const app = createApp(deps);
  return {
    app,
    clock,
    log,
    post: async (path, body, headers = {}) =>
      await app.request(path, {
        method: "POST",
        headers: { "content-type": "application/json", ...headers },
        body: typeof body === "string" ? body : JSON.stringify(body),
      }),
    get: async (path, headers = {}) => await app.request(path, { headers }),
  };
}

function infoOf(model: LanguageModel, extra: Partial<ModelInfo> = {}): ModelInfo {
  return {
    id: model.id,
    created: 1_700_000_000,
    ownedBy: "tests",
    fingerprint: `fp_${model.id}`,
    servedBy: "fake",
    contextLength: model.contextLength,
    ...extra,
  };
}

/** A model that writes these bytes after any prompt that ends with `<assistant>`, then stops. */
export function scriptModel(bytes: Uint8Array, options: { readonly id?: string } = {}): FakeModel {
  const vocab = fakeVocab();
  const opening = vocab.encode("<assistant>", { special: true })[0]!;
  const [stop] = vocab.stopTokens;
  return fakeModel({
    vocab,
    logits(tokens) {
      const written = tokens.length - 1 - tokens.lastIndexOf(opening);
      const row = new Float32Array(vocab.size).fill(-Infinity);
      row[bytes[written] ?? stop!] = 0;
      return row;
    },
    hidden: (tokens) => Float32Array.of(tokens.length),
  }, { id: "script", ...options });
}

/** A minimal chat request. */
export function chatBody(extra: Readonly<Record<string, unknown>> = {}) {
  return { model: "hash", messages: [{ role: "user", content: "hello" }], max_tokens: 8, ...extra };
}

/** The JSON of a response, loosely typed for looking around in. */
// deno-lint-ignore no-explicit-any
export type Json = any;

/** JSON objects of an event stream, without `[DONE]`; checks the framing on the way. */
export async function readEvents(response: Response): Promise<Json[]> {
  const text = await response.text();
  const frames = text.split("\n\n");
  if (frames.pop() !== "") throw new Error("The stream does not end with a blank line");
  if (frames.pop() !== "data: [DONE]") throw new Error("The stream does not end with [DONE]");
  return frames.filter((frame) => !frame.startsWith(":")).map((frame) => {
    if (!frame.startsWith("data: ") || frame.includes("\n")) throw new Error(`Bad event ${frame}`);
    return JSON.parse(frame.slice(6));
  });
}

/** Text per choice of a chat stream. */
export function streamedTexts(events: readonly Json[]): string[] {
  const texts: string[] = [];
  for (const { choices } of events) {
    for (const { index, delta, text } of choices) {
      texts[index] = (texts[index] ?? "") + (delta ? delta.content ?? "" : text);
    }
  }
  return texts;
}

/** SHA-256 of a key. */
export async function digest(key: string): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(key)));
}

/** Lets everything run that waits for nothing but the event loop. */
export async function settle(turns = 20): Promise<void> {
  for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** Value of one line of the metrics page. */
export async function metric(gateway: TestGateway, line: string): Promise<number> {
  const response = await gateway.get("/metrics");
  const text = await response.text();
  if (response.status !== 200) throw new Error(`/metrics answers ${response.status}: ${text}`);
  const found = text.split("\n").find((one) => one.startsWith(`decoding_gateway_${line} `));
  return found === undefined ? 0 : Number(found.slice(found.lastIndexOf(" ") + 1));
}
