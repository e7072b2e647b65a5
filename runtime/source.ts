/** What `--model` may name: an embedded id, a local folder or file, or a repository on a hub. */
import { NotFoundError } from "./errors.ts";
import { baseName } from "./formats/reader.ts";
import { fetchHubModel, type HubOptions, hubScheme, parseHubReference } from "./hub/mod.ts";

/** Where a model's files are on this machine. */
export interface ModelPath {
  /** Public id. */
  readonly id: string;
  /** Folder, or weight file. */
  readonly path: string;
  readonly origin: "embedded" | "local" | "hub";
  /** When the files were written, in Unix seconds. */
  readonly created: number;
  /** True if the hub could not be reached and the commit seen last was used. */
  readonly stale?: boolean;
}

/** Where to look. */
export interface SourceOptions {
  /** Folder of the embedded models, ends with "/". */
  readonly embeddedRoot: string;
  /** Asked for when a model comes from a hub. */
  readonly hub: () => HubOptions;
}

/** Models that ship with the repository, largest first. */
export const embeddedModels: readonly string[] = ["decant-tiny", "decant-tiny-draft"];

/**
 * Finds a model, and downloads it first if it is on a hub. Embedded ids win over folders of the same
 * name; write `./decant-tiny` for the folder.
 *
 * @throws {NotFoundError} if it is none of the three
 * @throws {HubError} if it cannot be downloaded
 */
export async function resolveModelPath(text: string, options: SourceOptions): Promise<ModelPath> {
  if (embeddedModels.includes(text)) {
    const path = `${options.embeddedRoot}${text}`;
    return { id: text, path, origin: "embedded", created: await modified(path) };
  }
  if (text.startsWith(hubScheme)) return await fromHub(text, options.hub());
  const path = text.length > 1 ? text.replace(/[/\\]+$/, "") : text;
  const info = await Deno.stat(path).catch((error: unknown) => {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  });
  if (!info) {
    throw new NotFoundError("model", text, [...embeddedModels, "a local path", "hf:org/repo"]);
  }
  const id = baseName(path).replace(/\.(gguf|safetensors)$/, "");
  return { id, path, origin: "local", created: seconds(info.mtime) };
}

async function fromHub(text: string, options: HubOptions): Promise<ModelPath> {
  const reference = parseHubReference(text);
  const { path, stale } = await fetchHubModel(reference, options);
  const id = text.slice(hubScheme.length).replace(/@[^/]+/, "").replace(/\.gguf$/i, "");
  return { id, path, origin: "hub", created: await modified(path), stale };
}

async function modified(path: string): Promise<number> {
  return seconds((await Deno.stat(path)).mtime);
}

function seconds(time: Date | null): number {
  return Math.floor((time?.getTime() ?? 0) / 1000);
}
