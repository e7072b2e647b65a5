/**
 * Weights spread over several safetensors files of one folder, described by an index file.
 *
 * Source: `model.safetensors.index.json` as written by Hugging Face transformers:
 * `{"metadata": {...}, "weight_map": {"tensor name": "shard file name"}}`.
 */
import { FormatError } from "../errors.ts";
import { isJsonObject, parseJson, quote } from "./json.ts";
import { baseName, type ByteSource, Cursor, fileSource } from "./reader.ts";
import { openSafetensors, type Safetensors } from "./safetensors.ts";
import { requireTensor, type WeightSource } from "./weights.ts";

/** The usual name of the index file. */
export const indexFileName = "model.safetensors.index.json";

const MAX_INDEX_BYTES = 64 * 1024 * 1024;
const MAX_SHARDS = 512;
const shardName = /^[A-Za-z0-9._-]{1,255}$/;

/**
 * Tensor name to shard file name. Shard names are plain file names of the index's own folder.
 *
 * @throws {FormatError} if the index is malformed or a shard name could lead elsewhere
 */
export function readShardIndex(source: ByteSource): ReadonlyMap<string, string> {
  if (source.size > MAX_INDEX_BYTES) {
    throw new FormatError(`${source.size} bytes are too many for an index`, {
      source: source.name,
    });
  }
  const text = new Cursor(source).utf8(source.size, "index");
  const index = parseJson(text, { source: source.name, maxDepth: 4 });
  const map = isJsonObject(index) ? index.get("weight_map") : undefined;
  if (!isJsonObject(map)) {
    throw new FormatError("weight_map is missing or not an object", { source: source.name });
  }
  const shards = new Map<string, string>();
  for (const [tensor, shard] of map) {
    if (typeof shard !== "string" || !shardName.test(shard) || /^\.+$/.test(shard)) {
      const shown = typeof shard === "string" ? quote(shard) : typeof shard;
      throw new FormatError(`shard of ${quote(tensor)} is not a plain file name: ${shown}`, {
        source: source.name,
      });
    }
    shards.set(tensor, shard);
  }
  if (new Set(shards.values()).size > MAX_SHARDS) {
    throw new FormatError(`more than ${MAX_SHARDS} shards`, { source: source.name });
  }
  return shards;
}

export interface ShardedOptions {
  /**
   * Folder that shards must lie in once symbolic links are followed. Widen it for caches that keep
   * the data beside the folder and link to it. @default the index's folder
   */
  readonly root?: string;
}

/**
 * Opens the index at `path` and all its shards.
 *
 * A tensor that is in a shard but not in the index is there all the same; one that is in the index
 * but not in its shard, or in two shards, is an error.
 *
 * @throws {FormatError} on a malformed index or shard
 * @throws {NotFoundError} if a shard is missing
 */
export function openShardedSafetensors(path: string, options: ShardedOptions = {}): WeightSource {
  const index = readIndexFile(path);
  const folder = path.slice(0, path.length - baseName(path).length) || "./";
  const root = Deno.realPathSync(options.root ?? folder);
  const opened = new Map<string, Safetensors>();
  const close = () => opened.forEach((shard) => shard[Symbol.dispose]());
  try {
    for (const name of new Set(index.values())) {
      checkInside(`${folder}${name}`, root, name);
      opened.set(name, openSafetensors(`${folder}${name}`));
    }
    return view(baseName(path), joinShards(index, opened, baseName(path)), close);
  } catch (error) {
    close();
    throw error;
  }
}

function readIndexFile(path: string): ReadonlyMap<string, string> {
  using source = fileSource(path);
  return readShardIndex(source);
}

/** Tensor name to the shard that holds it. */
function joinShards(
  index: ReadonlyMap<string, string>,
  opened: ReadonlyMap<string, Safetensors>,
  source: string,
): ReadonlyMap<string, Safetensors> {
  const tensors = new Map<string, Safetensors>();
  for (const shard of opened.values()) {
    for (const name of shard.names()) {
      if (tensors.has(name)) {
        throw new FormatError(`tensor ${quote(name)} is in two shards`, { source });
      }
      tensors.set(name, shard);
    }
  }
  for (const [name, shard] of index) {
    if (opened.get(shard)?.has(name)) continue;
    throw new FormatError(`tensor ${quote(name)} is not in ${quote(shard)}`, { source });
  }
  return tensors;
}

function view(
  source: string,
  tensors: ReadonlyMap<string, Safetensors>,
  close: () => void,
): WeightSource {
  const shard = (name: string) => requireTensor(tensors, name, source);
  return {
    names: () => tensors.keys(),
    has: (name) => tensors.has(name),
    shape: (name) => shard(name).shape(name),
    dtype: (name) => shard(name).dtype(name),
    f32: (name) => shard(name).f32(name),
    raw: (name) => shard(name).raw(name),
    rawInto: (name, offset, out) => shard(name).rawInto(name, offset, out),
    [Symbol.dispose]: close,
  };
}

/** Refuses a shard that is a symbolic link out of `root`. A missing one is reported on opening. */
function checkInside(path: string, root: string, name: string): void {
  let real: string;
  try {
    real = Deno.realPathSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw new FormatError("it cannot be opened", { source: name, cause: error });
  }
  const inside = root.endsWith("/") || root.endsWith("\\") ? root : `${root}${separator(root)}`;
  if (real.startsWith(inside)) return;
  throw new FormatError("it is a symbolic link that leaves the model's folder", { source: name });
}

const separator = (path: string): string => path.includes("\\") ? "\\" : "/";
