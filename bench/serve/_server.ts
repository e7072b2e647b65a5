/** Servers to measure: the gateway over a model that costs nothing, and over a real one. */
import { createGateway } from "../../mod.ts";
import { createApp, defaultLimits } from "../../routes/mod.ts";
import { createCatalog } from "../../runtime/mod.ts";
import { instantModel } from "./_instant_model.ts";

/** A server on a free port of this machine. */
export interface BenchServer extends AsyncDisposable {
  readonly port: number;
  /** Model to ask. */
  readonly model: string;
}

/** The gateway over the instant model. */
export function serveInstant(): BenchServer {
  let ids = 0;
  const { id, contextLength } = instantModel;
  const info = {
    id,
    created: 0,
    ownedBy: "bench",
    fingerprint: "instant",
    servedBy: "bench",
    contextLength,
  };
  const app = createApp({
    catalog: createCatalog([{ info, model: instantModel }]),
    aliases: new Map(),
    defaults: { strategy: "sample" },
    apiKeys: [],
    allowedHosts: ["127.0.0.1"],
    limits: { ...defaultLimits, requestsPerModel: 64 }, // all streams at once, none in line
    clock: {
      unixSeconds: () => Math.floor(Date.now() / 1000),
      unixMs: () => Date.now(),
      monotonicMs: () => performance.now(),
      after(ms, run) {
        const timer = setTimeout(run, ms);
        return () => clearTimeout(timer);
      },
    },
    newId: () => String(++ids),
    randomSeed: () => 1n,
    isReady: () => true,
    log: () => {},
  });
  return listen((request) => app.fetch(request), id);
}

/** A server that sends fixed bytes: what the HTTP stack and the client cost by themselves. */
export function serveBare(): BenchServer {
  const body = JSON.stringify({ object: "list", data: [] });
  const headers = { "content-type": "application/json" };
  return listen(() => new Response(body, { headers }), "none");
}

/** The gateway over the first embedded model. */
export async function serveEmbedded(): Promise<BenchServer> {
  const gateway = await createGateway({ limits: { running: 64 } });
  const server = listen((request) => gateway.fetch(request), gateway.models[0]!.id);
  return {
    ...server,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await gateway[Symbol.asyncDispose]();
    },
  };
}

function listen(
  handler: (request: Request) => Response | Promise<Response>,
  model: string,
): BenchServer {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, handler);
  return {
    port: server.addr.port,
    model,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
