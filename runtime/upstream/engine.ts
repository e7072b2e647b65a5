/** What all sessions at one upstream share: profile, pool, and asks of one turn that become one call. */
import type { ChatOptions, GenerateOptions, Meter, Prompt, RequestScope, Vocab } from "../model.ts";
import { isMessages } from "../model.ts";
import { bodyOf, type CallOptions } from "./body.ts";
import { type Caller, openGeneration } from "./call.ts";
import { type Member, NextTurn, SharedStream } from "./group.ts";
import type { UpstreamKind, UpstreamProfile } from "./types.ts";
import type { WireUsage } from "./wire.ts";

/** Choices per call: what cautious servers allow. */
const MOST_CHOICES = 16;
/** Tokens and characters of a prompt that decide its replica. */
const AFFINITY_TOKENS = 64;
const AFFINITY_CHARACTERS = 1024;

/** A generation somebody waits for. */
export interface GenerateAsk {
  readonly prompt: Prompt;
  readonly chat: ChatOptions;
  readonly options: GenerateOptions;
  readonly scope: RequestScope;
  readonly resolve: (member: Member) => void;
}

/** The upstream as its sessions see it. */
export interface UpstreamEngine {
  readonly id: string;
  readonly vocab: Vocab | undefined;
  readonly kind: UpstreamKind;
  readonly profile: UpstreamProfile;
  /** Longest sequence in tokens. */
  readonly contextLength: number;
  /** Starts a generation, together with its like. */
  generate(ask: Omit<GenerateAsk, "resolve">): Promise<Member>;
  /** Writes prompt tokens down, once per request. */
  bill(meter: Meter, promptTokens: number, cachedTokens: number): void;
}

/** What changes when the upstream is probed. */
export interface UpstreamFacts {
  readonly kind: UpstreamKind;
  readonly profile: UpstreamProfile;
  readonly contextLength: number;
}

/** @param facts read anew with every call */
export function createUpstreamEngine(caller: Caller, facts: () => UpstreamFacts): UpstreamEngine {
  const { id, vocab } = caller.spec;
  const billed = new WeakSet<Meter>();
  const bill: UpstreamEngine["bill"] = (meter, promptTokens, cachedTokens) => {
    if (billed.has(meter)) return;
    billed.add(meter);
    meter.promptTokens += promptTokens;
    meter.cachedTokens += cachedTokens;
  };
  const { turn: soon = (run) => void setTimeout(run, 0) } = caller.host;
  const turn = new NextTurn<GenerateAsk>(soon, (asks) => {
    const { kind, profile, contextLength } = facts();
    const most = profile.n ? MOST_CHOICES : 1;
    for (const group of alike(asks, most)) {
      start(caller, { kind, profile, contextLength, bill }, group);
    }
  });
  return {
    id,
    vocab,
    bill,
    get kind() {
      return facts().kind;
    },
    get profile() {
      return facts().profile;
    },
    get contextLength() {
      return facts().contextLength;
    },
    generate: (ask) => new Promise((resolve) => turn.add({ ...ask, resolve })),
  };
}

/** Asks of one request that differ in nothing but their seeds, at most `most` together. */
function alike(asks: readonly GenerateAsk[], most: number): GenerateAsk[][] {
  const groups: { readonly scope: RequestScope; readonly key: string; asks: GenerateAsk[] }[] = [];
  for (const ask of asks) {
    const key = most === 1 ? "" : keyOf(ask);
    const group = groups.find((one) =>
      one.scope === ask.scope && one.key === key && one.asks.length < most
    );
    if (group) group.asks.push(ask);
    else groups.push({ scope: ask.scope, key, asks: [ask] });
  }
  return groups.map((group) => group.asks);
}

function keyOf({ prompt, chat, options }: GenerateAsk): string {
  const { sampling, ...rest } = options;
  const { seed: _, ...shared } = sampling;
  return JSON.stringify([prompt, chat, shared, rest]);
}

function start(
  caller: Caller,
  { kind, profile, contextLength, bill }: UpstreamFacts & Pick<UpstreamEngine, "bill">,
  asks: readonly GenerateAsk[],
): void {
  const { prompt, scope } = asks[0]!;
  const control = new AbortController();
  const signal = AbortSignal.any([scope.signal, control.signal]);
  const call = callOptions(asks, profile, contextLength);
  const open = () =>
    openGeneration(caller, {
      kind,
      choices: asks.length,
      body: ({ model }) => ({ model, ...bodyOf(kind, profile, call) }),
      signal,
      affinity: caller.spec.affinity ? affinityOf(prompt, scope.cacheSalt) : undefined,
      counts: scope.calls,
    });
  const used = ({ promptTokens, cachedTokens }: WireUsage) =>
    bill(scope.meter, promptTokens, cachedTokens);
  const shared = new SharedStream({ open, abort: () => control.abort(), used }, asks.length);
  asks.forEach(({ resolve }, index) => resolve(shared.member(index)));
}

function callOptions(
  asks: readonly GenerateAsk[],
  { ignoreEos }: UpstreamProfile,
  contextLength: number,
): CallOptions {
  const { prompt, chat, options, scope } = asks[0]!;
  const { maxTokens, logprobs = true, topLogprobs = 0, ignoreStop = false } = options;
  return {
    prompt,
    chat,
    sampling: options.sampling,
    // A limit as long as the context is none; the server knows its own better.
    maxTokens: maxTokens >= contextLength ? undefined : maxTokens,
    choices: asks.length,
    logprobs: logprobs ? topLogprobs : undefined,
    // Of requests that ask for it, servers that cannot do it are refused before.
    ignoreStop: ignoreStop && ignoreEos,
    format: options.format,
    cacheSalt: scope.cacheSalt,
  };
}

/** What stays the same through a conversation: its beginning. */
function affinityOf(prompt: Prompt, salt: string): string {
  if (!isMessages(prompt)) return `${salt}/${prompt.slice(0, AFFINITY_TOKENS).join(" ")}`;
  const first = prompt.findIndex(({ role }) => role === "user");
  const opening = prompt.slice(0, first < 0 ? 1 : first + 1)
    .map(({ content }) => content ?? "").join("\n");
  return `${salt}/${opening.slice(0, AFFINITY_CHARACTERS)}`;
}
