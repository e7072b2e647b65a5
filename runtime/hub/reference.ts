/**
 * References to models on a Hugging Face style hub: `hf:org/repo[@revision][/file.gguf]`.
 *
 * A revision is a branch, a tag or a commit; a slash in it is written `%2F`, since the first plain
 * one starts the file.
 */
import { FormatError } from "../errors.ts";

export interface HubReference {
  /** "org/name". */
  readonly repo: string;
  /** @default "main" */
  readonly revision: string;
  /** A GGUF file in the repository, with `/` between folders. */
  readonly file?: string;
}

/** Where a reference starts with this, it is one. */
export const hubScheme = "hf:";

const name = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?$/;
const revisionPart = /^[A-Za-z0-9._-]+$/;

/** @throws {FormatError} if `text` is not a reference, with what is wrong */
export function parseHubReference(text: string): HubReference {
  const fail = (message: string) => new FormatError(message, { source: shown(text) });
  if (!text.startsWith(hubScheme)) throw fail(`it does not start with ${hubScheme}`);
  const match = /^([^/@]*)\/([^/@]*)(?:@([^/]*))?(?:\/(.*))?$/s.exec(text.slice(hubScheme.length));
  if (!match) throw fail("expected hf:org/repo[@revision][/file.gguf]");
  const [, org = "", repo = "", revision, file] = match;
  for (const part of [org, repo]) {
    // The hub itself forbids "--" and ".."; the cache relies on it to keep names apart.
    if (!name.test(part) || part.includes("--") || part.includes("..")) {
      throw fail(`${JSON.stringify(part)} is not the name of an organisation or repository`);
    }
  }
  const decoded = revision === undefined ? "main" : revision.replace(/%2F/gi, "/");
  if (!isSafePath(decoded) || decoded.length > 255) {
    throw fail(`${JSON.stringify(decoded)} is not a revision`);
  }
  const reference = { repo: `${org}/${repo}`, revision: decoded };
  if (file === undefined) return reference;
  if (!isSafePath(file)) throw fail(`${JSON.stringify(file)} is not a file name`);
  if (!/\.gguf$/i.test(file)) throw fail("only a file that ends in .gguf can be named");
  return { ...reference, file };
}

/**
 * Whether a name from outside may become a path below a folder: parts of letters, digits, dot,
 * underscore and hyphen with single slashes between, none of them made of dots alone.
 */
export function isSafePath(path: string): boolean {
  if (path.length > 1024) return false;
  return path.split("/").every((part) => revisionPart.test(part) && !/^\.+$/.test(part));
}

/** Whether a revision is a commit, whose content can never change. */
export function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision);
}

function shown(text: string): string {
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}...` : text);
}
