/**
 * The folder that downloaded models live in:
 *
 *     <cache>/<org>--<name>/<commit>/<file>              finished files, under their own names
 *     <cache>/<org>--<name>/<commit>/<file>.incomplete   being downloaded
 *     <cache>/<org>--<name>/<commit>.json                what is finished, and how it was checked
 *     <cache>/<org>--<name>/refs/<revision>              the commit a branch or tag last meant
 *
 * Everything may be deleted at any time while no download runs. Files are checked by hash when
 * they are downloaded and by length afterwards.
 */
import { isJsonObject, parseJson } from "../formats/json.ts";
import { isCommit, isSafePath } from "./reference.ts";
import type { Check, RemoteFile } from "./verify.ts";

/** What is known of one repository at one commit. */
export interface CacheRecord {
  /** All names of the repository, as the hub listed them. */
  readonly listing: readonly string[];
  /** Finished files. */
  readonly files: ReadonlyMap<string, RemoteFile>;
}

export interface RepositoryCache {
  /** Where the files of a commit are. */
  folder(commit: string): string;
  /** Path of one file. */
  path(commit: string, file: string): string;
  readRef(revision: string): Promise<string | undefined>;
  writeRef(revision: string, commit: string): Promise<void>;
  /** Undefined if there is none, or it is not readable as one. */
  readRecord(commit: string): Promise<CacheRecord | undefined>;
  writeRecord(commit: string, record: CacheRecord): Promise<void>;
}

/** @param repo "org/name", already validated */
export function repositoryCache(cacheFolder: string, repo: string): RepositoryCache {
  const root = `${cacheFolder}/${repo.replace("/", "--")}`;
  const refPath = (revision: string) => `${root}/refs/${encodeURIComponent(revision)}`;
  return {
    folder: (commit) => `${root}/${commit}`,
    path(commit, file) {
      // Names were checked where they came in; a path is built nowhere else.
      if (!isCommit(commit) || !isSafePath(file)) throw new RangeError("unsafe name in a path");
      return `${root}/${commit}/${file}`;
    },
    async readRef(revision) {
      const text = (await readText(refPath(revision)))?.trim();
      return text !== undefined && isCommit(text) ? text : undefined;
    },
    async writeRef(revision, commit) {
      await Deno.mkdir(`${root}/refs`, { recursive: true });
      await writeAtomically(refPath(revision), `${commit}\n`);
    },
    async readRecord(commit) {
      const text = await readText(`${root}/${commit}.json`);
      return text === undefined ? undefined : parseRecord(text);
    },
    async writeRecord(commit, record) {
      await Deno.mkdir(root, { recursive: true });
      const files = Object.fromEntries(
        [...record.files].map(([name, { size, check }]) => [name, { size, ...check }]),
      );
      const text = JSON.stringify({ listing: record.listing, files }, null, 1);
      await writeAtomically(`${root}/${commit}.json`, `${text}\n`);
    },
  };
}

/** Whether `path` is a file of this length. */
export async function hasLength(path: string, size: number): Promise<boolean> {
  try {
    const info = await Deno.stat(path);
    return info.isFile && info.size === size;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** A damaged record is no record: the files are then checked or fetched again. */
function parseRecord(text: string): CacheRecord | undefined {
  let record;
  try {
    record = parseJson(text, { source: "cache record", maxDepth: 4 });
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
  if (!isJsonObject(record)) return undefined;
  const listing = record.get("listing");
  const entries = record.get("files");
  if (!Array.isArray(listing) || !isJsonObject(entries)) return undefined;
  const files = new Map<string, RemoteFile>();
  for (const [name, entry] of entries) {
    if (!isJsonObject(entry) || !isSafePath(name)) return undefined;
    const size = entry.get("size");
    const check = parseCheck(entry.get("kind"), entry.get("hex"));
    if (typeof size !== "number" || !check) return undefined;
    files.set(name, { size, check });
  }
  const names = listing.filter((name) => typeof name === "string" && isSafePath(name));
  return { listing: names, files };
}

function parseCheck(kind: unknown, hex: unknown): Check | undefined {
  if (kind === "length") return { kind };
  if ((kind === "sha256" || kind === "git-sha1") && typeof hex === "string") return { kind, hex };
  return undefined;
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

async function writeAtomically(path: string, text: string): Promise<void> {
  const dir = path.slice(0, path.lastIndexOf("/"));
  const temporary = await Deno.makeTempFile({ dir, prefix: ".writing-" });
  await Deno.writeTextFile(temporary, text);
  await Deno.rename(temporary, path);
}
