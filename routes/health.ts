/** `GET /health`, `GET /ready`, `GET /metrics`. */
import type { ModelInfo } from "../runtime/mod.ts";
import { requireReady } from "./admission.ts";
import type { AppContext, Services } from "./services.ts";
import { notFound } from "./models.ts";

/** Always fine while the process answers at all. */
export function health(): Response {
  return Response.json({ status: "ok" });
}

/** Whether requests for text are welcome. */
export function ready(_c: AppContext, { deps }: Services): Response {
  requireReady(deps);
  return Response.json({ status: "ready" });
}

/** Counters in Prometheus' text format. */
export function metricsPage(_c: AppContext, { deps, metrics, queue }: Services): Response {
  if (deps.metrics === false) throw notFound();
  for (const { id: model, upstream } of deps.catalog.list()) {
    const { running, waiting } = queue.count(model);
    metrics.running.set({ model }, running);
    metrics.waiting.set({ model }, waiting);
    if (upstream) metrics.circuit.set({ upstream: model }, circuitState(upstream.replicas));
  }
  return new Response(metrics.text(deps.engineStats?.() ?? {}), {
    headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" },
  });
}

/** The best of an upstream's replicas: requests go there. */
function circuitState(
  replicas: NonNullable<ModelInfo["upstream"]>["replicas"],
): number {
  const states = ["closed", "half_open", "open"];
  return Math.min(...replicas.map(({ circuit }) => states.indexOf(circuit)));
}
