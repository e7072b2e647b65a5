/** What the gateway knows about one request while it runs. */
import type { CallCounts } from "../runtime/mod.ts";
import type { KeyGrant } from "./deps.ts";
import { rateHeaders, type RateStatus } from "./rates.ts";
import type { DecodingSource } from "./select.ts";

/** Who calls: a key, or anybody where no keys are configured. */
export interface Caller {
  /** SHA-256 of the key in hex; "" without keys. Never leaves the process but for 8 digits in logs. */
  readonly keyDigest: string;
  /** What the key may do; undefined = everything. */
  readonly grant?: KeyGrant | undefined;
}

/** Filled in as the request passes through; headers, metrics and log read it at the end. */
export interface RequestState {
  readonly id: string;
  /**
   * Fires when the client goes away. Taken before anything is awaited: read later it would not.
   * It also fires after a good response, so nothing may listen to it longer than that.
   */
  readonly clientSignal: AbortSignal;
  readonly startedMs: number;
  /** The matched route's pattern; "" if none matched. */
  route: string;
  caller: Caller;
  model?: string;
  servedBy?: string;
  strategy?: string;
  source?: DecodingSource;
  /** The strategy that was asked for and could not run. */
  fallback?: string | undefined;
  kvPolicy?: string;
  /** Calls made to upstreams so far. */
  readonly calls: CallCounts;
  /** What is left of the key's budgets per minute. */
  rates?: Partial<Record<"requests" | "tokens", RateStatus>>;
  /** Fields accepted without effect. */
  ignored: readonly string[];
}

/** Context variables of the Hono app. */
export interface AppEnv {
  Variables: { state: RequestState };
}

const requestIdPattern = /^[A-Za-z0-9._-]{1,128}$/;

/** The caller's request id if it is a plain one, otherwise a fresh one. */
export function requestId(headers: Headers, newId: () => string): string {
  const given = headers.get("x-request-id") ?? "";
  return requestIdPattern.test(given) ? given : `req_${newId()}`;
}

/** Headers every response carries, and those that tell how it was decoded. */
export function stateHeaders(state: RequestState, elapsedMs: number): [string, string][] {
  const optional: [string, string | undefined][] = [
    ["x-decoding-strategy", state.strategy],
    ["x-decoding-source", state.source],
    ["x-decoding-fallback", state.fallback],
    ["x-kv-policy", state.kvPolicy],
    ["x-served-by", state.servedBy],
    ["x-attempts", state.calls.attempts > 0 ? String(state.calls.attempts) : undefined],
    ["x-fallbacks", state.calls.attempts > 0 ? String(state.calls.fallbacks) : undefined],
  ];
  return [
    ["x-request-id", state.id],
    ["openai-processing-ms", String(Math.round(elapsedMs))],
    ...optional.flatMap(([name, value]): [string, string][] => value ? [[name, value]] : []),
    ...rateLines(state.rates),
  ];
}

function rateLines({ requests, tokens }: NonNullable<RequestState["rates"]> = {}) {
  return [
    ...requests ? rateHeaders("requests", requests) : [],
    ...tokens ? rateHeaders("tokens", tokens) : [],
  ];
}
