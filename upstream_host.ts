/** What upstreams need of the platform, and how a gateway calls itself towards them. Web standards only. */
import type { AppDeps } from "./routes/mod.ts";
import type { UpstreamHost } from "./runtime/mod.ts";

/** What upstreams need of the platform. */
export function upstreamHost(
  log: AppDeps["log"],
  { fetch: send = fetch, via, turn, gatherMs }: {
    /** @default the platform's */
    readonly fetch?: UpstreamHost["fetch"];
    /** @default the process's */
    readonly via?: string;
    /** @default the platform has nothing so quick */
    readonly turn?: NonNullable<UpstreamHost["turn"]>;
    /** @default events do not wait for each other */
    readonly gatherMs?: number;
  } = {},
): UpstreamHost {
  return {
    fetch: (url, init) => {
      const headers = { ...init.headers, via: via ?? ourVia() };
      return send(url, { ...init, headers });
    },
    now: () => performance.now(),
    wallMs: () => Date.now(),
    after(ms, run) {
      const timer = setTimeout(run, ms);
      return () => clearTimeout(timer);
    },
    random: () => crypto.getRandomValues(new Uint32Array(1))[0]! / 4294967296,
    ...turn ? { turn } : {},
    ...gatherMs === undefined ? {} : { gatherMs },
    log: ({ level, event, upstream, replica, detail }) =>
      log({ level, event, upstream, replica, ...detail === undefined ? {} : { detail } }),
  };
}

/** How one gateway calls itself towards upstreams; it refuses requests that come back with it. */
export function createVia(): string {
  return `1.1 decant-${crypto.randomUUID().slice(0, 8)}`;
}

/** The name of a process with one gateway, made late: edge platforms have no randomness at the start. */
export function ourVia(): string {
  return processVia ??= createVia();
}

let processVia: string | undefined;
