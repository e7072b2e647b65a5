/** From the name of a model to a served one: files, tokenizer, weights, backend, engine. */
import { createHash } from "node:crypto";
import type { Backend } from "./backend/backend.ts";
import type { CatalogEntry } from "./catalog.ts";
import { createEngine, type Engine } from "./engine/engine.ts";
import { createLocalExecutor } from "./engine/local_executor.ts";
import { FormatError, NotFoundError } from "./errors.ts";
import { openGguf } from "./formats/gguf.ts";
import { openSafetensors } from "./formats/safetensors.ts";
import { openShardedSafetensors } from "./formats/safetensors_sharded.ts";
import type { WeightSource } from "./formats/weights.ts";
import type { Vocab } from "./model.ts";
import {
  configFromGguf,
  configFromJson,
  loadDecoder,
  type ModelConfig,
  usableContext,
} from "./models/mod.ts";
import { readGgufVocab } from "./tokenizer/gguf_vocab.ts";
import { readTokenizerJson } from "./tokenizer/tokenizer_json.ts";

/** How to serve a model. */
export interface LoadOptions {
  readonly id: string;
  readonly backend: Backend;
  /** Longest sequence in tokens. @default what the model was trained for */
  readonly context?: number | undefined;
  /** Upper bound on KV memory in bytes. */
  readonly kvBytes: number;
  /** Unix seconds, for listings. */
  readonly created: number;
  readonly ownedBy: string;
  /** Id of a model that may draft for this one. */
  readonly draft?: string | undefined;
}

/** A served model that can be closed. */
export interface LoadedModel extends CatalogEntry, AsyncDisposable {
  readonly engine: Engine;
}

/** Slots per KV page. */
const PAGE_SIZE = 16;
/** A pool never needs more than this many full sequences. */
const MAX_SEQUENCES = 128;
/** Tensors up to this size go into the fingerprint whole: norms, biases, small models. */
const FINGERPRINT_BYTES = 1 << 20;

interface ModelFiles {
  readonly config: ModelConfig;
  readonly vocab: Vocab;
  readonly weights: WeightSource;
}

/**
 * Loads a folder in Hugging Face layout, a .gguf file, or a .safetensors file beside its config.json.
 *
 * @throws {FormatError} if a file is damaged or not supported, naming what
 * @throws {NotFoundError} if a needed file is missing
 * @throws {RangeError} if the context is longer than the model's
 */
export async function loadModel(path: string, options: LoadOptions): Promise<LoadedModel> {
  const { config, vocab, weights } = await openFiles(path);
  using source = weights;
  requireSameVocab(config, vocab);
  const contextLength = options.context ?? usableContext(config);
  const fingerprint = fingerprintOf(config, vocab, source, options.backend.name);
  const decoder = loadDecoder(config, source, options.backend);
  const executor = createLocalExecutor(decoder, options.backend, {
    contextLength,
    vocab: vocab.size,
    pageSize: PAGE_SIZE,
    pages: pagesFor(config, contextLength, options.kvBytes),
  });
  const engine = createEngine({ id: options.id, vocab, executor });
  return {
    engine,
    model: engine,
    info: {
      id: options.id,
      created: options.created,
      ownedBy: options.ownedBy,
      fingerprint,
      servedBy: options.backend.name,
      contextLength,
      parameters: decoder.parameters,
      ...(options.draft === undefined ? {} : { draft: options.draft }),
    },
    [Symbol.asyncDispose]: () => engine[Symbol.asyncDispose](),
  };
}

async function openFiles(path: string): Promise<ModelFiles> {
  if (path.endsWith(".gguf")) return openGgufFiles(path);
  const isFile = path.endsWith(".safetensors");
  const folder = isFile ? path.slice(0, path.lastIndexOf("/") + 1) : `${path}/`;
  const config = configFromJson(await readText(folder, "config.json"));
  const vocab = readTokenizerJson({
    tokenizer: await readText(folder, "tokenizer.json"),
    config: await readOptionalText(folder, "tokenizer_config.json"),
    generation: await readOptionalText(folder, "generation_config.json"),
    chatTemplate: await readOptionalText(folder, "chat_template.jinja"),
  });
  return { config, vocab, weights: await openWeights(folder, isFile ? path : undefined) };
}

function openGgufFiles(path: string): ModelFiles {
  const gguf = openGguf(path);
  try {
    return {
      config: configFromGguf(gguf.metadata, gguf),
      vocab: readGgufVocab(gguf.metadata),
      weights: gguf,
    };
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

/** Padding rows beyond the tokenizer's ids are usual; missing rows are not. */
function requireSameVocab(config: ModelConfig, vocab: Vocab): void {
  if (vocab.size <= config.vocab) return;
  throw new FormatError(
    `the tokenizer has ${vocab.size} tokens, the model only ${config.vocab}`,
    { source: "tokenizer" },
  );
}

function pagesFor(config: ModelConfig, contextLength: number, kvBytes: number): number {
  const { layers, kvHeads, headDim } = config;
  const pageBytes = 2 * layers * kvHeads * headDim * PAGE_SIZE * Float32Array.BYTES_PER_ELEMENT;
  const perSequence = Math.ceil(contextLength / PAGE_SIZE);
  return Math.max(
    perSequence + 1,
    Math.min(Math.floor(kvBytes / pageBytes), MAX_SEQUENCES * perSequence),
  );
}

/** Changes with weights, storage type, tokenizer and backend; reads small tensors only. */
function fingerprintOf(
  config: ModelConfig,
  vocab: Vocab,
  weights: WeightSource,
  backend: string,
): string {
  const hash = createHash("sha256");
  hash.update(JSON.stringify([config, vocab.fingerprint, backend]));
  for (const name of [...weights.names()].sort()) {
    const shape = weights.shape(name);
    hash.update(JSON.stringify([name, weights.dtype(name), shape]));
    const elements = shape.reduce((product, size) => product * size, 1);
    if (elements * 4 <= FINGERPRINT_BYTES) hash.update(weights.raw(name));
  }
  return `fp_${hash.digest("hex").slice(0, 16)}`;
}
