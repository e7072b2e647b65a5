/**
 * Which files of a repository make a model.
 */
import { isJsonObject, type Json, parseJson } from "../formats/json.ts";
import { indexFileName } from "../formats/safetensors_sharded.ts";
import { HubError } from "./errors.ts";
import { type HubReference, isCommit, isSafePath } from "./reference.ts";

/** A repository at one commit. */
export interface Listing {
  readonly commit: string;
  readonly files: readonly string[];
}

export interface Selection {
  /** Small files, to be fetched first; each is in the listing. */
  readonly settings: readonly string[];
  /** Names of the weight files, or the index that names them. */
  readonly weights: { readonly files: readonly string[] } | { readonly index: string };
}

const MAX_FILES = 100_000;

/** What a model folder may hold beside weights; only the first is required. */
const settingsFiles = [
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "chat_template.jinja",
];

/**
 * Reads the hub's answer to `/api/models/{repo}/revision/{revision}`.
 *
 * @throws {HubError} if it is malformed or a file name could lead out of a folder
 */
export function readListing(text: string, repo: string): Listing {
  const fail = (message: string) => new HubError("response", message, { repo });
  const answer = parseAnswer(text, repo);
  if (!isJsonObject(answer)) throw fail("the file list is not an object");
  const commit = answer.get("sha");
  if (typeof commit !== "string" || !isCommit(commit)) {
    throw fail("the file list names no commit");
  }
  const siblings = answer.get("siblings");
  if (!Array.isArray(siblings)) throw fail("the file list has no files");
  if (siblings.length > MAX_FILES) throw fail(`more than ${MAX_FILES} files`);
  const files: string[] = [];
  for (const sibling of siblings) {
    const name = isJsonObject(sibling) ? sibling.get("rfilename") : undefined;
    if (typeof name !== "string") throw fail("the file list has an entry without a name");
    if (/(?:^|[/\\])\.\.(?:[/\\]|$)|^[/\\]|^[A-Za-z]:/.test(name)) {
      throw fail(`the file list has a name that leaves its folder: ${JSON.stringify(name)}`);
    }
    // Names with spaces and the like belong to pictures and notes; no file of a model has one.
    if (isSafePath(name)) files.push(name);
  }
  return { commit, files };
}

function parseAnswer(text: string, repo: string): Json {
  try {
    return parseJson(text, { source: "file list", maxDepth: 32 });
  } catch (cause) {
    throw new HubError("response", "the file list is not JSON", { repo, cause });
  }
}

/**
 * Chooses what to fetch: the GGUF file that was named; otherwise safetensors weights with the
 * files that describe them; otherwise the only GGUF file there is.
 *
 * @throws {HubError} if there is nothing suitable, or more than one possibility
 */
export function selectFiles(reference: HubReference, files: readonly string[]): Selection {
  const { repo, file } = reference;
  const present = new Set(files);
  if (file !== undefined) {
    if (!present.has(file)) {
      throw new HubError("not-found", "it is not in the file list", { repo, file });
    }
    return gguf(repo, file);
  }
  const weights = safetensors(repo, files);
  if (!weights) return gguf(repo, onlyGguf(repo, files));
  if (!present.has("config.json")) {
    const message = "it has safetensors weights but no config.json";
    throw new HubError("unsuitable", message, { repo });
  }
  return { settings: settingsFiles.filter((name) => present.has(name)), weights };
}

function safetensors(repo: string, files: readonly string[]): Selection["weights"] | undefined {
  if (files.includes(indexFileName)) return { index: indexFileName };
  if (files.includes("model.safetensors")) return { files: ["model.safetensors"] };
  const found = files.filter((name) => /^[^/]+\.safetensors$/.test(name));
  if (found.length <= 1) return found.length === 0 ? undefined : { files: found };
  const message = `it has several safetensors files and no index: ${listed(found)}`;
  throw new HubError("unsuitable", message, { repo });
}

function onlyGguf(repo: string, files: readonly string[]): string {
  const found = files.filter((name) => /\.gguf$/i.test(name));
  const [first] = found;
  if (first === undefined) {
    throw new HubError("unsuitable", "it has neither safetensors nor GGUF files", { repo });
  }
  if (found.length === 1) return first;
  const message = `it has several GGUF files, name one as hf:${repo}/FILE: ${listed(found)}`;
  throw new HubError("unsuitable", message, { repo });
}

function gguf(repo: string, file: string): Selection {
  if (/-[0-9]{5}-of-[0-9]{5}\.gguf$/i.test(file)) {
    const message = "it is one part of a split GGUF file, which is not supported";
    throw new HubError("unsuitable", message, { repo, file });
  }
  return { settings: [], weights: { files: [file] } };
}

function listed(names: readonly string[]): string {
  const shown = names.slice(0, 20).join(", ");
  return names.length > 20 ? `${shown} and ${names.length - 20} more` : shown;
}
