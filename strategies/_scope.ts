/** Request-scoped models: who pays, when to stop, and that nothing stays open. */
import {
  createMeter,
  type LanguageModel,
  type Meter,
  type RequestScope,
  type Session,
  type SessionCore,
} from "../runtime/mod.ts";
import type { RunRequest } from "./_run_types.ts";

/** The models of one request. */
export interface ModelScope {
  readonly models: Readonly<Record<string, LanguageModel>>;
  /** What each role spent. */
  readonly meters: Readonly<Record<string, Meter>>;
  /** Closes every session that is still open. */
  close(): void;
}

/** Wraps a request's models, a role each in the order declared, so that sessions know their request and end with it. */
export function scopeModels(
  request: RunRequest,
  roles: readonly string[],
  signal: AbortSignal,
): ModelScope {
  const open = new Set<SessionCore>();
  const models: Record<string, LanguageModel> = {};
  const meters: Record<string, Meter> = {};
  for (const role of roles) {
    const model = request.models[role]!;
    const meter = createMeter();
    const { id, cacheSalt, kv, calls } = request;
    const scope: RequestScope = { id, signal, meter, cacheSalt, kv, calls };
    meters[role] = meter;
    models[role] = scopeModel(model, scope, request, open);
  }
  return {
    models,
    meters,
    close() {
      for (const session of [...open]) session[Symbol.dispose]();
    },
  };
}

function scopeModel(
  model: LanguageModel,
  scope: RequestScope,
  { chat }: RunRequest,
  open: Set<SessionCore>,
): LanguageModel {
  return {
    id: model.id,
    vocab: model.vocab,
    contextLength: scope.kv && model.contextUnder
      ? model.contextUnder(scope.kv)
      : model.contextLength,
    capabilities: model.capabilities,
    topLogprobs: model.topLogprobs,
    honours: (format) => model.honours?.(format) ?? false,
    session: (prompt, options) =>
      tracked(model.session(prompt, { chat, ...options, scope }), open) as Session,
  };
}

/**
 * The session, with its forks and its end noted in `open`. A proxy, because sessions keep private
 * fields that only they themselves can read.
 */
function tracked<S extends SessionCore>(session: S, open: Set<SessionCore>): S {
  const bound = new Map<PropertyKey, unknown>([
    ["fork", () => tracked(session.fork(), open)],
    [Symbol.dispose, () => {
      open.delete(session);
      session[Symbol.dispose]();
    }],
  ]);
  open.add(session);
  return new Proxy(session, {
    get(target, key) {
      const known = bound.get(key);
      if (known !== undefined) return known;
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value !== "function") return value;
      const method = (...args: readonly unknown[]) => heard(value.apply(target, args));
      bound.set(key, method);
      return method;
    },
  });
}

/**
 * An ask that its strategy stopped waiting for is rejected when the request ends. That is no news to
 * anybody, and must not end the process as an unhandled rejection.
 */
function heard(result: unknown): unknown {
  if (result instanceof Promise) result.catch(() => {});
  return result;
}
