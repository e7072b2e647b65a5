/** Upstreams over fakes, on a clock that only moves when told to. */
import { parseConfig } from "../../../runtime/config.ts";
import {
  type Config,
  type ConfigInput,
  createMeter,
  createUpstreams,
  greedySampling,
  type LanguageModel,
  type Message,
  type RequestScope,
  type Sampled,
  type SamplingParams,
  seedFrom,
  type Upstream,
  type UpstreamEvent,
  type UpstreamHost,
  type Vocab,
} from "../../../runtime/mod.ts";
import { fakeClock } from "../../routes/_support.ts";

/** A configuration's upstream, as a file gives it. */
export type UpstreamInput = NonNullable<ConfigInput["upstreams"]>[string];

/** A host and what tests do with it. */
export interface TestHost extends UpstreamHost {
  readonly clock: ReturnType<typeof fakeClock>;
  readonly events: UpstreamEvent[];
  /** Next random numbers, then 0. */
  readonly chances: number[];
}

/** A host whose time stands still. */
export function testHost(fetch: UpstreamHost["fetch"]): TestHost {
  const clock = fakeClock();
  const events: UpstreamEvent[] = [];
  const chances: number[] = [];
  return {
    clock,
    events,
    chances,
    fetch,
    now: () => clock.monotonicMs(),
    wallMs: () => 1_700_000_000_000 + clock.monotonicMs(),
    after: (ms, run) => clock.after(ms, run),
    random: () => chances.shift() ?? 0,
    turn: (run) => void setImmediate(run),
    log: (event) => void events.push(event),
  };
}

/** The upstream "up" at one replica, or as given. */
export function openUpstream(
  host: UpstreamHost,
  input: Partial<UpstreamInput> = {},
  vocab?: Vocab,
): Upstream {
  const config: Config = parseConfig({
    models: [],
    upstreams: {
      up: {
        model: "m",
        replicas: [{ url: "http://a.test/v1" }],
        ...vocab ? { tokenizer: "t" } : {},
        ...input,
      },
    },
  }, "test");
  const [upstream] = createUpstreams(config, host, {
    env: (name) => name === "UP_KEY" ? "sk-canary" : undefined,
    created: 1,
    ...vocab ? { tokenizers: new Map([["t", vocab]]) } : {},
  });
  return upstream!;
}

/** A scope of its own. */
export function scopeOf(signal = new AbortController().signal): RequestScope {
  return {
    id: "r",
    signal,
    meter: createMeter(),
    cacheSalt: "",
    calls: { attempts: 0, fallbacks: 0 },
  };
}

/** A chat of one message. */
export function chatOf(content: string): readonly Message[] {
  return [{ role: "user", content }];
}

/** A generation of a model, read to its end. */
export async function answerOf(
  model: LanguageModel,
  content: string,
  options: { readonly scope?: RequestScope; readonly sampling?: Partial<SamplingParams> } = {},
): Promise<{ readonly text: string; readonly draws: readonly Sampled[] }> {
  const able = model as LanguageModel<"generate">;
  using session = able.session(chatOf(content), { scope: options.scope ?? scopeOf() });
  const draws: Sampled[] = [];
  const sampling = { ...greedySampling, seed: seedFrom(7), ...options.sampling };
  for await (const sampled of session.generate({ sampling, maxTokens: 64, logprobs: false })) {
    draws.push(sampled);
  }
  return { text: draws.map(({ text }) => text).join(""), draws };
}

/** Lets everything run that waits for nothing but the event loop. */
export async function settle(turns = 20): Promise<void> {
  for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
}
