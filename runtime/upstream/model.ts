/** A model that is computed elsewhere, as a LanguageModel. */
import type { ModelInfo, UpstreamStatus } from "../catalog.ts";
import { CapabilityError, ContextLengthError } from "../errors.ts";
import {
  type Capability,
  type ChatOptions,
  createMeter,
  isMessages,
  type LanguageModel,
  type Prompt,
  type RequestScope,
  type Session,
  type SessionCore,
  type TokenId,
} from "../model.ts";
import { encodePrompt } from "../prompt.ts";
import { lackedBy } from "./body.ts";
import type { Caller } from "./call.ts";
import { takesFormat } from "./formats.ts";
import { createUpstreamEngine, type UpstreamEngine, type UpstreamFacts } from "./engine.ts";
import { headersFor } from "./http.ts";
import { Pool } from "./pool.ts";
import { type Probe, probeReplica } from "./probe.ts";
import { common, kindOf, profileOf } from "./profile.ts";
import { ChatSession } from "./chat_session.ts";
import { TokenSession } from "./token_session.ts";
import type { UpstreamHost, UpstreamSpec } from "./types.ts";

/** Context of a chat whose length nobody knows: the server refuses what is too long. */
const UNKNOWN_CONTEXT = 1_048_576;

/** A served upstream. */
export interface Upstream extends Disposable {
  readonly model: LanguageModel;
  readonly info: ModelInfo;
  /**
   * Asks the replicas what they can do. Never throws: an upstream that does not answer is served as
   * what its engine is known for, and asked again when it is seen to be well.
   */
  probe(): Promise<void>;
  /** The first probe, made once; for platforms where nothing runs before a request. */
  probeOnce(): Promise<void>;
  /** Keeps asking whether replicas are well, until disposed. */
  watch(): void;
}

/** @param created Unix seconds, for listings */
export function createUpstream(
  spec: UpstreamSpec,
  host: UpstreamHost,
  created: number,
): Upstream {
  const pool = new Pool(spec, host);
  let probes: readonly (Probe | undefined)[] = spec.replicas.map(() => undefined);
  let facts = factsOf(spec, probes);
  const caller: Caller = {
    spec,
    host,
    pool,
    isAlive: (index) => isAlive(spec, host, index),
    budget: { left: spec.retries.attempts },
  };
  const engine = createUpstreamEngine(caller, () => facts);

  async function probe(indices: readonly number[]): Promise<void> {
    const found = await Promise.all(
      indices.map((index) => probeReplica(spec, spec.replicas[index]!, host)),
    );
    probes = probes.map((old, index) => {
      const fresh = found[indices.indexOf(index)];
      return fresh?.answered ? fresh : old;
    });
    indices.forEach((index, i) => pool.mark(index, found[i]!.answered));
    facts = factsOf(spec, probes);
  }

  const probeAll = () => probe(spec.replicas.map((_, index) => index));
  let first: Promise<void> | undefined;
  let stop = () => {};
  return {
    model: modelOf(spec, engine),
    info: infoOf(spec, pool, created, () => ({ facts, probed: probes.some((one) => one) })),
    probe: probeAll,
    probeOnce: () => first ??= probeAll(),
    watch() {
      stop();
      if (spec.health.intervalMs === 0) return;
      let isOver = false;
      const tick = async () => {
        const alive = await Promise.all(spec.replicas.map((_, i) => isAlive(spec, host, i)));
        if (isOver) return;
        alive.forEach((isWell, index) => pool.mark(index, isWell));
        await probe(spec.replicas.keys().filter((i) => alive[i]! && !probes[i]).toArray());
        if (!isOver) cancel = host.after(spec.health.intervalMs, () => void tick());
      };
      let cancel = host.after(spec.health.intervalMs, () => void tick());
      stop = () => {
        isOver = true;
        cancel();
      };
    },
    [Symbol.dispose]: () => stop(),
  };
}

function factsOf(spec: UpstreamSpec, probes: readonly (Probe | undefined)[]): UpstreamFacts {
  const found = probes.flatMap((probe) => probe ? [probe.profile] : []);
  const profile = found.length > 0 ? common(found) : profileOf(spec.engine, spec.declared);
  return {
    profile,
    kind: kindOf(spec.kind, profile, spec.vocab !== undefined),
    contextLength: spec.contextLength ?? profile.contextLength ?? UNKNOWN_CONTEXT,
  };
}

function modelOf(spec: UpstreamSpec, engine: UpstreamEngine): LanguageModel {
  /** The vocabulary, while completions go token by token. */
  const vocabulary = () => engine.kind === "completions" ? spec.vocab : undefined;
  const logprobs = () => logprobsOf(engine);
  return {
    id: spec.id,
    get vocab() {
      return vocabulary();
    },
    get contextLength() {
      return engine.contextLength;
    },
    get capabilities(): ReadonlySet<Capability> {
      if (!vocabulary()) return new Set(["generate"]);
      return new Set(logprobs() ? ["generate", "edit", "topk"] : ["generate", "edit"]);
    },
    get topLogprobs() {
      return logprobs();
    },
    honours: (format) => takesFormat(engine.profile, format),
    lacks: (demand) => lackedBy(engine.kind, engine.profile, demand),
    session(prompt, { rollback = 0, chat = {}, scope = ownScope() } = {}) {
      const session = vocabulary()
        ? openTokens(engine, encodePrompt(prompt, spec.vocab!, { model: spec.id, chat }), {
          rollback,
          scope,
        })
        : openChat(engine, prompt, chat, scope);
      return session as SessionCore as Session; // `capabilities` says which members there are
    },
  };
}

function openChat(
  engine: UpstreamEngine,
  prompt: Prompt,
  chat: ChatOptions,
  scope: RequestScope,
): ChatSession {
  if (!isMessages(prompt)) throw new CapabilityError(engine.id, ["prompts of token ids"]);
  return new ChatSession(engine, prompt, chat, scope);
}

function openTokens(
  engine: UpstreamEngine,
  tokens: readonly TokenId[],
  { rollback, scope }: { readonly rollback: number; readonly scope: RequestScope },
): TokenSession {
  const { contextLength } = engine;
  if (tokens.length > contextLength) throw new ContextLengthError(tokens.length, 0, contextLength);
  engine.bill(scope.meter, tokens.length, 0);
  return new TokenSession(engine, { tokens, rollback, scope, committed: 0 });
}

function ownScope(): RequestScope {
  const { signal } = new AbortController();
  return { id: "", signal, meter: createMeter(), cacheSalt: "" };
}

function logprobsOf({ kind, profile }: Pick<UpstreamFacts, "kind" | "profile">) {
  return kind === "chat" ? profile.chatLogprobs : profile.completionLogprobs;
}

function infoOf(
  spec: UpstreamSpec,
  pool: Pool,
  created: number,
  state: () => { readonly facts: UpstreamFacts; readonly probed: boolean },
): ModelInfo {
  return {
    id: spec.id,
    created,
    ownedBy: "upstream",
    fingerprint: "fp_upstream",
    servedBy: spec.id,
    get contextLength() {
      return state().facts.contextLength;
    },
    get upstream(): UpstreamStatus {
      const { facts, probed } = state();
      const { kind, profile } = facts;
      return {
        engine: profile.engine,
        kind,
        probed,
        n: profile.n ? "native" : "emulated",
        top_logprobs: logprobsOf(facts) ?? null,
        sampling: [...profile.sampling].sort(),
        formats: [...profile.formats].sort(),
        replicas: pool.states(),
      };
    },
  };
}

/** Whether a replica answers something easy in the time a connection may take. */
async function isAlive(spec: UpstreamSpec, host: UpstreamHost, index: number): Promise<boolean> {
  const replica = spec.replicas[index]!;
  const { path } = spec.health;
  const url = path === undefined ? `${replica.url}/models` : new URL(path, replica.url).href;
  const control = new AbortController();
  const cancel = host.after(spec.timeouts.connectMs, () => control.abort());
  try {
    const gone = new Promise<never>((_, reject) =>
      control.signal.addEventListener("abort", () => reject(control.signal.reason), { once: true })
    );
    gone.catch(() => {});
    const { status } = await Promise.race([
      host.fetch(url, {
        headers: headersFor(replica, true),
        redirect: "manual",
        signal: control.signal,
      }),
      gone,
    ]);
    return status > 0 && status < 500;
  } catch {
    return false;
  } finally {
    cancel();
    control.abort();
  }
}
