/** Log lines. Prompts, answers and keys never get here. */
import type { AppDeps } from "./deps.ts";
import type { ApiError } from "./errors.ts";
import type { RequestState } from "./state.ts";

/** One line per request, when its headers leave. */
export function logRequest(
  deps: AppDeps,
  state: RequestState,
  request: Request,
  { status, ms }: { readonly status: number; readonly ms: number },
): void {
  const attempt = request.headers.get("x-stainless-retry-count") ?? "";
  const idempotencyKey = request.headers.get("idempotency-key") ?? "";
  deps.log({
    level: status >= 500 ? "error" : "info",
    event: "request",
    requestId: state.id,
    method: request.method,
    route: state.route,
    status,
    ms: Math.round(ms * 1000) / 1000,
    ...state.model === undefined ? {} : { model: state.model },
    ...state.strategy === undefined ? {} : { strategy: state.strategy },
    ...(/^[1-9]\d?$/.test(attempt) ? { attempt } : {}),
    ...(/^[\w.-]{1,128}$/.test(idempotencyKey) ? { idempotencyKey } : {}),
    ...state.caller.keyDigest ? { key: state.caller.keyDigest.slice(0, 8) } : {},
  });
}

/** What lies behind a failure of ours. */
export function logFailure(deps: AppDeps, state: RequestState, error: ApiError): void {
  if (error.status < 500) return;
  deps.log({
    level: "error",
    event: "failure",
    requestId: state.id,
    code: error.code,
    ...describeCause(error.cause),
  });
}

/** Class and place of an error. Its message may quote a prompt, so it stays out. */
function describeCause(cause: unknown): Record<string, string> {
  if (!(cause instanceof Error)) return {};
  const frames = (cause.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line));
  return { cause: cause.name, stack: frames.slice(0, 8).map((line) => line.trim()).join(" | ") };
}
