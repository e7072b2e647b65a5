/** The files of a model: configuration, tokenizer, weights. */
import { NotFoundError } from "./errors.ts";
import { type Gguf, openGguf } from "./formats/gguf.ts";
import type { MetadataOptions } from "./formats/gguf_metadata.ts";
import { openSafetensors } from "./formats/safetensors.ts";
import { openShardedSafetensors } from "./formats/safetensors_sharded.ts";
import type { WeightSource } from "./formats/weights.ts";
import type { Vocab } from "./model.ts";
import { configFromGguf, configFromJson, type ModelConfig } from "./models/mod.ts";
import { readGgufVocab } from "./tokenizer/gguf_vocab.ts";
import { readTokenizerJson } from "./tokenizer/tokenizer_json.ts";

/** What a forward pass is built from. */
export interface WeightFiles {
  readonly config: ModelConfig;
  /** Open; the caller closes it. */
  readonly weights: WeightSource;
}

/** Everything there is. */
export interface ModelFiles extends WeightFiles {
  readonly vocab: Vocab;
}

/**
 * Opens a folder in Hugging Face layout, a .gguf file, or a .safetensors file beside its config.json.
 *
 * @throws {FormatError} if a file is damaged or not supported, naming what
 * @throws {NotFoundError} if a needed file is missing
 */
export async function openModelFiles(path: string): Promise<ModelFiles> {
  if (isGguf(path)) {
    return openGgufWith(path, (gguf) => ({ vocab: readGgufVocab(gguf.metadata) }));
  }
  return { ...await openWeightFiles(path), vocab: await loadTokenizer(path) };
}

/**
 * The vocabulary of a model folder or .gguf file, without its weights.
 *
 * @throws {FormatError | NotFoundError}
 */
export async function loadTokenizer(path: string): Promise<Vocab> {
  if (isGguf(path)) {
    using gguf = openGguf(path);
    return readGgufVocab(gguf.metadata);
  }
  const { folder } = splitPath(path);
  return readTokenizerJson({
    tokenizer: await readText(folder, "tokenizer.json"),
    config: await readOptionalText(folder, "tokenizer_config.json"),
    generation: await readOptionalText(folder, "generation_config.json"),
    chatTemplate: await readOptionalText(folder, "chat_template.jinja"),
  });
}

/** The same without the tokenizer. @throws {FormatError | NotFoundError} */
export async function openWeightFiles(path: string): Promise<WeightFiles> {
  if (isGguf(path)) return openGgufWith(path, () => ({}), { without: "tokenizer." });
  const { folder, file } = splitPath(path);
  const config = configFromJson(await readText(folder, "config.json"));
  return { config, weights: await openWeights(folder, file) };
}

/** Folder beside the weights that holds learned parts of KV policies. */
const adapterFolder = "kv_adapters";

/** Adapter files of a model, by name; empty without such a folder. */
export async function listAdapterFiles(path: string): Promise<readonly string[]> {
  const isFile = isGguf(path) || path.endsWith(".safetensors");
  const folder = `${
    isFile ? path.slice(0, path.lastIndexOf("/") + 1) : `${path}/`
  }${adapterFolder}`;
  const files: string[] = [];
  try {
    for await (const { name } of Deno.readDir(folder)) {
      if (name.endsWith(".safetensors")) files.push(`${folder}/${name}`);
    }
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
  return files.sort();
}

function isGguf(path: string): boolean {
  return /\.gguf$/i.test(path);
}

function splitPath(path: string): { readonly folder: string; readonly file?: string } {
  if (!path.endsWith(".safetensors")) return { folder: `${path}/` };
  return { folder: path.slice(0, path.lastIndexOf("/") + 1), file: path };
}

function openGgufWith<T>(
  path: string,
  more: (gguf: Gguf) => T,
  options: MetadataOptions = {},
): WeightFiles & T {
  const gguf = openGguf(path, options);
  try {
    return { config: configFromGguf(gguf.metadata, gguf), weights: gguf, ...more(gguf) };
  } catch (error) {
    gguf[Symbol.dispose]();
    throw error;
  }
}

async function openWeights(folder: string, file: string | undefined): Promise<WeightSource> {
  if (file !== undefined) return openSafetensors(file);
  const single = `${folder}model.safetensors`;
  if (await exists(single)) return openSafetensors(single);
  const index = `${folder}model.safetensors.index.json`;
  if (await exists(index)) return openShardedSafetensors(index);
  throw new NotFoundError("file", "model.safetensors", ["model.safetensors", "a .gguf file"]);
}

async function readText(folder: string, name: string): Promise<string> {
  const text = await readOptionalText(folder, name);
  if (text === undefined) throw new NotFoundError("file", name);
  return text;
}

async function readOptionalText(folder: string, name: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(`${folder}${name}`);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then((info) => info.isFile, () => false);
}
