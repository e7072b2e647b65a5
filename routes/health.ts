/** `GET /health`, `GET /ready`, `GET /metrics`. */
import { ApiError } from "./errors.ts";
import type { AppContext, Services } from "./services.ts";
import { notFound } from "./models.ts";

/** Always fine while the process answers at all. */
export function health(): Response {
  return Response.json({ status: "ok" });
}

/** Whether requests for text are welcome. */
export function ready(_c: AppContext, { deps }: Services): Response {
  if (deps.isReady()) return Response.json({ status: "ready" });
  throw new ApiError(503, "model_loading", "The gateway is not ready", {
    headers: { "retry-after": "1" },
  });
}

/** Counters in Prometheus' text format. */
export function metricsPage(_c: AppContext, { deps, metrics }: Services): Response {
  if (deps.metrics === false) throw notFound();
  return new Response(metrics.text(deps.engineStats?.() ?? {}), {
    headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" },
  });
}
