/** A model whose files are in memory, computing in this thread: for platforms without files. */
import type { Backend } from "./backend/backend.ts";
import type { CatalogEntry } from "./catalog.ts";
import { createIsolatedModel, type IsolatedModel } from "./engine/isolated_model.ts";
import { createLocalExecutor } from "./engine/local_executor.ts";
import type { NextTurn } from "./engine/step_loop.ts";
import { FormatError } from "./errors.ts";
import { bytesSource } from "./formats/reader.ts";
import { readSafetensors } from "./formats/safetensors.ts";
import type { WeightSource } from "./formats/weights.ts";
import { configFromJson, loadDecoder, type ModelConfig, usableContext } from "./models/mod.ts";
import { createSha256 } from "./sha256.ts";
import { readTokenizerJson } from "./tokenizer/tokenizer_json.ts";

/** The files of a model in Hugging Face layout; texts as they are in the files. */
export interface MemoryFiles {
  readonly config: string;
  readonly tokenizer: string;
  readonly tokenizerConfig?: string | undefined;
  readonly generation?: string | undefined;
  readonly chatTemplate?: string | undefined;
  /** A safetensors file. It is not needed any more when the model is loaded. */
  readonly weights: Uint8Array;
}

/** How to serve it. */
export interface MemoryModelOptions {
  readonly id: string;
  /** Stays the caller's. */
  readonly backend: Backend;
  /** Longest sequence in tokens. @default what the model was trained for */
  readonly context?: number | undefined;
  /** KV memory per request in bytes; at least one sequence fits. */
  readonly kvBytes: number;
  /** Most requests at once. */
  readonly requests: number;
  /** Unix seconds, for listings. */
  readonly created: number;
  /** Id of a model that may draft for this one. */
  readonly draft?: string | undefined;
  readonly nextTurn?: NextTurn;
}

/** A served model that can be closed. */
export interface MemoryModel extends CatalogEntry, AsyncDisposable {
  readonly model: IsolatedModel;
}

/** Slots per KV page. */
const pageSize = 16;
/** Tensors up to this size go into the fingerprint whole: norms and biases. */
const fingerprintBytes = 1 << 16;

/**
 * Loads a model.
 *
 * @throws {FormatError} if a file is damaged or not supported, naming what
 * @throws {RangeError} if the context is longer than the model's
 */
export function loadMemoryModel(files: MemoryFiles, options: MemoryModelOptions): MemoryModel {
  const { id, backend, nextTurn } = options;
  const vocab = readTokenizerJson({
    tokenizer: files.tokenizer,
    config: files.tokenizerConfig,
    generation: files.generation,
    chatTemplate: files.chatTemplate,
  });
  const config = configFromJson(files.config);
  if (vocab.size > config.vocab) {
    throw new FormatError(
      `the tokenizer has ${vocab.size} tokens, the model only ${config.vocab}`,
      { source: "tokenizer" },
    );
  }
  using weights = readSafetensors(bytesSource(files.weights, "model.safetensors"));
  const decoder = loadDecoder(config, weights, backend);
  const contextLength = options.context ?? usableContext(config);
  const pages = pagesFor(config, contextLength, options.kvBytes);
  const model = createIsolatedModel({
    id,
    vocab,
    createExecutor: () => {
      const executor = createLocalExecutor(decoder, backend, {
        contextLength,
        vocab: vocab.size,
        pageSize,
        pages,
      });
      return { ...executor, [Symbol.asyncDispose]: () => Promise.resolve() };
    },
    pools: options.requests,
    ...nextTurn === undefined ? {} : { nextTurn },
  });
  return {
    model,
    info: {
      id,
      created: options.created,
      ownedBy: "decant",
      fingerprint: fingerprintOf(config, vocab.fingerprint, weights, backend.name),
      servedBy: backend.name,
      contextLength,
      parameters: decoder.parameters,
      ...(options.draft === undefined ? {} : { draft: options.draft }),
    },
    async [Symbol.asyncDispose]() {
      await model[Symbol.asyncDispose]();
      decoder[Symbol.dispose]();
    },
  };
}

function pagesFor(config: ModelConfig, contextLength: number, kvBytes: number): number {
  const { layers, kvHeads, headDim } = config;
  const pageBytes = 2 * layers * kvHeads * headDim * pageSize * Float32Array.BYTES_PER_ELEMENT;
  return Math.max(Math.ceil(contextLength / pageSize) + 1, Math.floor(kvBytes / pageBytes));
}

/** Changes with tokenizer, shapes, small weights and backend. */
function fingerprintOf(
  config: ModelConfig,
  vocab: string,
  weights: WeightSource,
  backend: string,
): string {
  const hash = createSha256().update(JSON.stringify([config, vocab, backend]));
  for (const name of [...weights.names()].sort()) {
    const shape = weights.shape(name);
    hash.update(JSON.stringify([name, weights.dtype(name), shape]));
    const elements = shape.reduce((product, size) => product * size, 1);
    if (elements * 4 <= fingerprintBytes) hash.update(weights.raw(name));
  }
  return `fp_${hash.hex().slice(0, 16)}`;
}
