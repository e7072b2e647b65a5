/** A hub on a local port with the real one's URL layout, and faults on demand. */
import { createHash } from "node:crypto";
import type { HubClock, HubOptions } from "../../../runtime/hub/mod.ts";

export const commit = "0123456789abcdef0123456789abcdef01234567";

/** How one file is served; without options correctly, as a plain (not LFS) file. */
export interface FakeFile {
  readonly content: Uint8Array<ArrayBuffer>;
  /** SHA-256 as entity tag, download redirected to the storage server. @default false */
  readonly lfs?: boolean;
  /** Entity tag to announce instead of the right one; null for none. */
  readonly etag?: string | null;
  /** Length to announce instead of the right one. */
  readonly size?: number;
  /** Cut the connection after so many bytes of the body, one entry per GET. */
  readonly cuts?: number[];
  /** Statuses to answer GETs with before serving, one per GET. */
  readonly statuses?: number[];
  /** Ignore Range. */
  readonly noRanges?: boolean;
  /** Answer a Range request with 416, once. */
  readonly refuseRange?: { once: boolean };
  /** Content-Range to send instead of the right one. */
  readonly contentRange?: string;
  /** End the body properly after so many bytes, without a length. */
  readonly endAfter?: number;
  /** Send the head of the body and then nothing, so many times. */
  readonly stalls?: { left: number };
  /** Where HEAD and GET are redirected to, instead of the file. */
  readonly location?: string;
}

export interface Seen {
  readonly server: "hub" | "storage";
  readonly method: string;
  readonly path: string;
  readonly authorization: string | null;
  readonly range: string | null;
}

export interface FakeHub extends AsyncDisposable {
  readonly endpoint: string;
  readonly storage: string;
  readonly seen: Seen[];
  /** GETs of one file, by server. */
  gets(file: string): Seen[];
}

export interface FakeHubOptions {
  readonly repo?: string;
  readonly files: Readonly<Record<string, FakeFile>>;
  /** Requests without this bearer token get 401. */
  readonly token?: string;
  /** Status of every answer of the hub. */
  readonly status?: number;
  /** The file list's text, instead of the right one. */
  readonly listing?: string;
  /** Value of x-repo-commit. @default the commit */
  readonly commitHeader?: string;
}

/** Starts the hub and its storage server, which is another origin. */
export function fakeHub(options: FakeHubOptions): FakeHub {
  const { repo = "org/model", files } = options;
  const seen: Seen[] = [];
  const serve = (server: Seen["server"], answer: (request: Request, path: string) => Response) =>
    Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {}, onError: failed }, (request) => {
      const path = decodeURIComponent(new URL(request.url).pathname);
      const { method, headers } = request;
      const [authorization, range] = [headers.get("authorization"), headers.get("range")];
      seen.push({ server, method, path, authorization, range });
      return answer(request, path);
    });
  const storage = serve("storage", (request, path) => body(request, files[path.slice(1)]));
  const storageOrigin = `http://127.0.0.1:${storage.addr.port}`;
  const hub = serve("hub", (request, path) => {
    if (options.status !== undefined) return new Response("no", { status: options.status });
    const authorization = request.headers.get("authorization");
    if (options.token !== undefined && authorization !== `Bearer ${options.token}`) {
      return new Response("no", { status: 401 });
    }
    if (path.startsWith(`/api/models/${repo}/revision/`)) {
      return new Response(options.listing ?? listing(Object.keys(files)));
    }
    const prefix = `/${repo}/resolve/${commit}/`;
    const name = path.startsWith(prefix) ? path.slice(prefix.length) : "";
    const file = files[name];
    if (!file) return new Response("no", { status: 404 });
    return resolve(request, file, `${storageOrigin}/${name}`, options.commitHeader ?? commit);
  });
  return {
    endpoint: `http://127.0.0.1:${hub.addr.port}`,
    storage: storageOrigin,
    seen,
    gets: (file) =>
      seen.filter(({ method, path }) => method === "GET" && path.endsWith(`/${file}`)),
    async [Symbol.asyncDispose]() {
      await Promise.all([hub.shutdown(), storage.shutdown()]);
    },
  };
}

const failed = (): Response => new Response("failed", { status: 500 });

function listing(names: readonly string[]): string {
  return JSON.stringify({
    id: "org/model",
    sha: commit,
    downloads: 1.5,
    siblings: names.map((rfilename) => ({ rfilename })),
  });
}

/** The hub's own answer for one file. */
function resolve(request: Request, file: FakeFile, stored: string, commitHeader: string): Response {
  const headers = new Headers({ "x-repo-commit": commitHeader });
  const etag = file.etag === undefined ? hashOf(file) : file.etag;
  if (file.location !== undefined) {
    headers.set("location", file.location);
    return new Response(null, { status: 307, headers });
  }
  if (file.lfs) {
    if (etag !== null) headers.set("x-linked-etag", `"${etag}"`);
    headers.set("x-linked-size", String(file.size ?? file.content.length));
    headers.set("location", stored);
    return new Response(null, { status: 302, headers });
  }
  const response = body(request, file);
  for (const [name, value] of headers) response.headers.set(name, value);
  if (etag !== null) response.headers.set("etag", `"${etag}"`);
  return response;
}

export function hashOf({ content, lfs }: FakeFile): string {
  if (lfs) return createHash("sha256").update(content).digest("hex");
  return createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");
}

/** The file's bytes, or the part asked for. */
function body(request: Request, file: FakeFile | undefined): Response {
  if (!file) return new Response("no", { status: 404 });
  const { content } = file;
  const length = String(file.size ?? content.length);
  if (request.method === "HEAD") {
    return new Response(null, { headers: { "content-length": length } });
  }
  const status = file.statuses?.shift();
  if (status !== undefined) return new Response("no", { status });
  const range = file.noRanges ? null : request.headers.get("range");
  const start = range === null ? 0 : Number(/^bytes=([0-9]+)-$/.exec(range)?.[1]);
  if (range !== null && file.refuseRange?.once) {
    file.refuseRange.once = false;
    return new Response("no", { status: 416 });
  }
  const headers = new Headers();
  if (file.endAfter === undefined) headers.set("content-length", String(content.length - start));
  if (range !== null) {
    const right = `bytes ${start}-${content.length - 1}/${content.length}`;
    headers.set("content-range", file.contentRange ?? right);
  }
  const part = content.subarray(start, file.endAfter);
  return new Response(chunked(part, file), { status: range === null ? 200 : 206, headers });
}

/** Chunks of 1,000 bytes with the file's faults. */
function chunked(part: Uint8Array<ArrayBuffer>, file: FakeFile): ReadableStream<Uint8Array> {
  const cut = file.cuts?.shift() ?? Infinity;
  const stall = (file.stalls?.left ?? 0) > 0;
  if (file.stalls) file.stalls.left--;
  let at = 0;
  return new ReadableStream({
    async pull(controller) {
      if (stall && at > 0) return await new Promise(() => {});
      if (at >= cut) return controller.error(new Error("cut"));
      const end = Math.min(at + 1000, part.length, cut);
      if (end > at) controller.enqueue(part.slice(at, end));
      at = end;
      if (at >= part.length) controller.close();
    },
  });
}

/** Bytes that differ from file to file, so that a mix-up is noticed. */
export function someBytes(length: number, seed: number): Uint8Array<ArrayBuffer> {
  let state = seed;
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state >>> 24;
  });
}

/**
 * Time for tests. Waits between retries, which listen to the caller's own signal, end at once and
 * are recorded; every other wait is an idle limit and is never reached.
 */
export function fakeClock(signal: AbortSignal): HubClock & { readonly waits: number[] } {
  const waits: number[] = [];
  let now = 0;
  return {
    waits,
    now: () => now,
    wait(ms, until) {
      if (until !== signal) {
        return new Promise((_, reject) => {
          until.addEventListener("abort", () => reject(until.reason), { once: true });
        });
      }
      waits.push(ms);
      now += ms;
      return Promise.resolve();
    },
  };
}

/** Options for `fetchHubModel` with a fresh cache folder, removed after the test. */
export async function withCache(
  hub: FakeHub,
  test: (options: HubOptions & { readonly clock: ReturnType<typeof fakeClock> }) => Promise<void>,
): Promise<void> {
  const cacheFolder = await Deno.makeTempDir();
  try {
    const { signal } = new AbortController();
    const clock = fakeClock(signal);
    await test({ endpoint: hub.endpoint, cacheFolder, fetch, clock, signal });
  } finally {
    await Deno.remove(cacheFolder, { recursive: true });
  }
}
