/**
 * Fetching models from a Hugging Face style hub into a local cache.
 *
 * Source: the hub's URL layout, https://huggingface.co/docs/hub/api:
 * `{endpoint}/api/models/{repo}/revision/{revision}` lists the files of a commit,
 * `{endpoint}/{repo}/resolve/{commit}/{file}` gives one. See `cache.ts` for the folder layout.
 */
import { bytesSource } from "../formats/reader.ts";
import { indexFileName, readShardIndex } from "../formats/safetensors_sharded.ts";
import { type CacheRecord, hasLength, type RepositoryCache, repositoryCache } from "./cache.ts";
import { download } from "./download.ts";
import { HubError } from "./errors.ts";
import { getText, type HubClock, type HubHttp } from "./http.ts";
import type { Progress } from "./progress.ts";
import { type HubReference, isCommit, isSafePath } from "./reference.ts";
import { type Listing, readListing, selectFiles } from "./select.ts";
import { createVerifier, describe, feedFile, type RemoteFile } from "./verify.ts";

export { HubError, type HubReason } from "./errors.ts";
export type { HubClock } from "./http.ts";
export { type Progress, renderProgress } from "./progress.ts";
export { type HubReference, hubScheme, parseHubReference } from "./reference.ts";

export interface HubOptions {
  /** Base address of the hub: "https://huggingface.co". */
  readonly endpoint: string;
  /** Sent to the endpoint's origin only. */
  readonly token?: string | undefined;
  /** Where models are kept; made if missing. */
  readonly cacheFolder: string;
  readonly fetch: typeof fetch;
  readonly clock: HubClock;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  /** How often one request is repeated after a cut connection or a passing error. @default 10 */
  readonly retries?: number | undefined;
  /** How long the connection may be silent. @default 60,000 */
  readonly idleTimeoutMs?: number | undefined;
}

export interface HubModel {
  readonly repo: string;
  readonly commit: string;
  /** Folder with all the files below. */
  readonly folder: string;
  /** What to load: the folder, or one file of it: a GGUF file, or weights with an unusual name. */
  readonly path: string;
  /** Every file, and how it was checked when it was downloaded. */
  readonly files: ReadonlyMap<string, RemoteFile>;
  /** True if the hub could not be reached and the commit last seen for the revision was used. */
  readonly stale: boolean;
}

const MAX_LISTING_BYTES = 32 * 1024 * 1024;

/** What the steps below share. */
interface Job {
  readonly http: HubHttp;
  readonly reference: HubReference;
  readonly cache: RepositoryCache;
  readonly onProgress: (progress: Progress) => void;
}

/**
 * Makes sure that the model's files are in the cache, and says where.
 *
 * A commit that is complete in the cache needs no connection. A branch or tag is looked up; if the
 * hub cannot be reached, the commit it meant last time is used where that one is complete.
 *
 * @throws {HubError} if the model cannot be had
 * @throws {FormatError} if the index of a sharded model is malformed
 * @throws {RangeError} if the endpoint is not an http(s) address
 */
export async function fetchHubModel(
  reference: HubReference,
  options: HubOptions,
): Promise<HubModel> {
  const job: Job = {
    http: resolveHttp(options),
    reference,
    cache: repositoryCache(options.cacheFolder, reference.repo),
    onProgress: options.onProgress ?? (() => {}),
  };
  if (isCommit(reference.revision)) {
    const cached = await fromCache(job, reference.revision, false);
    if (cached) return cached;
  }
  const fallback = await fromLastCommit(job);
  let listing: Listing;
  try {
    listing = await list(job, fallback ? impatient(job.http) : job.http);
  } catch (error) {
    const unreachable = error instanceof HubError && error.retryable;
    if (!fallback || !unreachable) throw error;
    return fallback;
  }
  const model = await fetchListed(job, listing);
  if (!isCommit(reference.revision)) await job.cache.writeRef(reference.revision, listing.commit);
  return model;
}

function resolveHttp(options: HubOptions): HubHttp {
  const endpoint = URL.parse(options.endpoint);
  if (endpoint?.protocol !== "https:" && endpoint?.protocol !== "http:") {
    throw new RangeError("The hub's endpoint must be an http or https address");
  }
  return {
    endpoint: options.endpoint.replace(/\/+$/, ""),
    token: options.token,
    fetch: options.fetch,
    clock: options.clock,
    signal: options.signal ?? new AbortController().signal,
    retries: options.retries ?? 10,
    idleTimeoutMs: options.idleTimeoutMs ?? 60_000,
  };
}

/** With a model at hand, a start without network should not take minutes. */
function impatient(http: HubHttp): HubHttp {
  return { ...http, retries: 0, idleTimeoutMs: Math.min(http.idleTimeoutMs, 5000) };
}

async function list({ reference: { repo, revision } }: Job, http: HubHttp): Promise<Listing> {
  const path = `api/models/${repo}/revision/${encodeURIComponent(revision)}`;
  const url = new URL(`${http.endpoint}/${path}`);
  const text = await getText(http, { url, subject: { repo }, maxBytes: MAX_LISTING_BYTES });
  const listing = readListing(text, repo);
  if (isCommit(revision) && listing.commit !== revision) {
    throw new HubError("response", "the hub answered for another commit", { repo });
  }
  return listing;
}

async function fromLastCommit(job: Job): Promise<HubModel | undefined> {
  if (isCommit(job.reference.revision)) return undefined;
  const commit = await job.cache.readRef(job.reference.revision);
  return commit === undefined ? undefined : await fromCache(job, commit, true);
}

/** The model as it is in the cache, if every file of it is there. */
async function fromCache(job: Job, commit: string, stale: boolean): Promise<HubModel | undefined> {
  const record = await job.cache.readRecord(commit);
  if (!record) return undefined;
  const selection = selectFiles(job.reference, record.listing);
  const names: string[] = [...selection.settings];
  if ("index" in selection.weights) {
    const { index } = selection.weights;
    if (!await isFinished(job, commit, record, index)) return undefined;
    names.push(index, ...await shards(job, commit, index));
  } else {
    names.push(...selection.weights.files);
  }
  for (const name of names) {
    if (!await isFinished(job, commit, record, name)) return undefined;
  }
  return result(job, { commit, names, files: record.files, stale });
}

async function isFinished(
  job: Job,
  commit: string,
  record: CacheRecord,
  name: string,
): Promise<boolean> {
  const known = record.files.get(name);
  return known !== undefined && await hasLength(job.cache.path(commit, name), known.size);
}

/** Downloads what is missing of a listed commit. */
async function fetchListed(job: Job, { commit, files }: Listing): Promise<HubModel> {
  const selection = selectFiles(job.reference, files);
  const finished = new Map((await job.cache.readRecord(commit))?.files);
  const names: string[] = [];
  const get = async (name: string) => {
    if (!files.includes(name)) {
      const { repo } = job.reference;
      throw new HubError("not-found", "it is not in the file list", { repo, file: name });
    }
    names.push(name);
    const known = finished.get(name);
    if (known && await hasLength(job.cache.path(commit, name), known.size)) return;
    finished.set(name, await fetchFile(job, commit, name));
    await job.cache.writeRecord(commit, { listing: files, files: finished });
  };
  for (const name of selection.settings) await get(name);
  if ("index" in selection.weights) {
    await get(selection.weights.index);
    for (const name of await shards(job, commit, selection.weights.index)) await get(name);
  } else {
    for (const name of selection.weights.files) await get(name);
  }
  return result(job, { commit, names, files: finished, stale: false });
}

/** The shards a downloaded index names. */
async function shards(job: Job, commit: string, index: string): Promise<readonly string[]> {
  const bytes = await Deno.readFile(job.cache.path(commit, index));
  const names = [...new Set(readShardIndex(bytesSource(bytes, index)).values())];
  const unsafe = names.find((name) => !isSafePath(name));
  if (unsafe === undefined) return names;
  const { repo } = job.reference;
  throw new HubError("response", "its index names a file outside the folder", {
    repo,
    file: index,
  });
}

async function fetchFile(job: Job, commit: string, file: string): Promise<RemoteFile> {
  const { http, reference: { repo }, onProgress } = job;
  const path = file.split("/").map(encodeURIComponent).join("/");
  const url = new URL(`${http.endpoint}/${repo}/resolve/${commit}/${path}`);
  const subject = { repo, file };
  const remote = await describe(http, url, subject, commit);
  const target = job.cache.path(commit, file);
  await Deno.mkdir(target.slice(0, target.lastIndexOf("/")), { recursive: true });
  // Finished by a run that could not write its record any more.
  if (await isValid(target, remote, http.signal)) return remote;
  await download(http, { url, subject, remote, target, onProgress });
  return remote;
}

async function isValid(path: string, remote: RemoteFile, signal: AbortSignal): Promise<boolean> {
  if (remote.check.kind === "length" || !await hasLength(path, remote.size)) return false;
  using file = await Deno.open(path, { read: true });
  const verifier = createVerifier(remote);
  await feedFile(file, remote.size, verifier, signal);
  return verifier.matches();
}

function result(
  job: Job,
  found: {
    readonly commit: string;
    readonly names: readonly string[];
    readonly files: ReadonlyMap<string, RemoteFile>;
    readonly stale: boolean;
  },
): HubModel {
  const { commit, names, stale } = found;
  const folder = job.cache.folder(commit);
  const weights = names.filter((name) => /\.(?:gguf|safetensors)$/i.test(name));
  const [only = "model.safetensors"] = weights;
  const whole = weights.length > 1 || names.includes(indexFileName) || only === "model.safetensors";
  const path = whole ? folder : job.cache.path(commit, only);
  const files = new Map([...found.files].filter(([name]) => names.includes(name)));
  return { repo: job.reference.repo, commit, folder, path, files, stale };
}
