/**
 * What the hub says about a file before it is downloaded: length, hash, commit.
 *
 * Source: Hugging Face Hub, answers to HEAD on `/{repo}/resolve/{revision}/{file}`. The entity tag
 * of a large (LFS) file is its SHA-256; that of any other file is its git blob id, the SHA-1 of
 * "blob <length>\0" and the content.
 */
import { createHash, type Hash } from "node:crypto";
import { HubError, statusError, type Subject } from "./errors.ts";
import { type HubHttp, send, withIdleLimit, withRetries } from "./http.ts";

/** How a file can be checked. "length" where the hub names no hash. */
export type Check =
  | { readonly kind: "sha256" | "git-sha1"; readonly hex: string }
  | { readonly kind: "length" };

export interface RemoteFile {
  readonly size: number;
  readonly check: Check;
}

/**
 * Asks for length and hash.
 *
 * @throws {HubError} if the hub refuses, does not name the length, or answers for another commit
 */
export function describe(
  http: HubHttp,
  url: URL,
  subject: Subject,
  commit: string,
): Promise<RemoteFile> {
  const once = () =>
    withIdleLimit(http, subject, async (signal) => {
      // The hub's own answer carries the LFS headers; only without them is the storage asked.
      const request = { method: "HEAD", url, subject, signal } as const;
      const hubAnswer = await send(http, { ...request, stopAtOtherOrigin: true });
      const linked = hubAnswer.headers.has("x-linked-size") || hubAnswer.status < 300 ||
        hubAnswer.status >= 400;
      const answer = linked ? hubAnswer : await send(http, request);
      await hubAnswer.body?.cancel();
      if (answer !== hubAnswer) await answer.body?.cancel();
      if (answer.status >= 400) throw statusError(answer, subject);
      return readHeaders(hubAnswer.headers, answer, { subject, commit });
    });
  return withRetries(http, once);
}

function readHeaders(
  hub: Headers,
  answer: Response,
  about: { readonly subject: Subject; readonly commit: string },
): RemoteFile {
  const commit = hub.get("x-repo-commit");
  if (commit !== null && commit !== about.commit) {
    throw new HubError("response", "the hub answered for another commit", about.subject);
  }
  const ownLength = answer.status < 300 ? answer.headers.get("content-length") : null;
  const length = hub.get("x-linked-size") ?? ownLength;
  const size = length !== null && /^[0-9]{1,16}$/.test(length) ? Number(length) : NaN;
  if (!Number.isSafeInteger(size)) {
    throw new HubError("response", "the hub does not say how long it is", about.subject);
  }
  return { size, check: parseEtag(hub.get("x-linked-etag") ?? hub.get("etag")) };
}

/** The hash inside an entity tag, if it is one of the two kinds the hub uses. */
export function parseEtag(etag: string | null): Check {
  const hex = /^(?:W\/)?"?([0-9a-f]{40}|[0-9a-f]{64})"?$/i.exec(etag ?? "")?.[1]?.toLowerCase();
  if (hex === undefined) return { kind: "length" };
  return { kind: hex.length === 64 ? "sha256" : "git-sha1", hex };
}

/** A running hash of a file's bytes that ends in a comparison. */
export interface Verifier {
  update(bytes: Uint8Array): void;
  /** Whether what was fed in has the expected hash; always true where there is none. */
  matches(): boolean;
}

export function createVerifier({ size, check }: RemoteFile): Verifier {
  if (check.kind === "length") return { update() {}, matches: () => true };
  const hash: Hash = createHash(check.kind === "sha256" ? "sha256" : "sha1");
  if (check.kind === "git-sha1") hash.update(`blob ${size}\0`);
  return {
    update: (bytes) => void hash.update(bytes),
    matches: () => hash.digest("hex") === check.hex,
  };
}

/** Feeds the first `bytes` bytes of an open file, from its start, into `verifier`. */
export async function feedFile(
  file: Deno.FsFile,
  bytes: number,
  verifier: Verifier,
  signal: AbortSignal,
): Promise<void> {
  await file.seek(0, Deno.SeekMode.Start);
  const buffer = new Uint8Array(1 << 20);
  for (let left = bytes; left > 0;) {
    signal.throwIfAborted();
    const count = await file.read(buffer.subarray(0, Math.min(left, buffer.length)));
    if (count === null) throw new Error("the file became shorter while it was read");
    verifier.update(buffer.subarray(0, count));
    left -= count;
  }
}
