/** From the name of a model to a served one: files, tokenizer, weights, backend, engine. */
import { createHash } from "node:crypto";
import type { GpuSettings } from "./backend/select.ts";
import type { CatalogEntry } from "./catalog.ts";
import { createEngine, type Engine } from "./engine/engine.ts";
import { createModelExecutor, type ModelExecutor } from "./engine/model_executor.ts";
import { createWorkerExecutor } from "./engine/worker_executor.ts";
import { FormatError } from "./errors.ts";
import type { WeightSource } from "./formats/weights.ts";
import { listAdapterFiles, openModelFiles } from "./model_files.ts";
import type { Vocab } from "./model.ts";
import { type ModelConfig, usableContext, type WeightFormat } from "./models/mod.ts";

/** How to serve a model. */
export interface LoadOptions {
  readonly id: string;
  /** Name of the backend, or "auto". */
  readonly backend: string;
  /**
   * Where the model computes. In a Worker the thread of HTTP stays free; without Workers (edge
   * platforms) it has to be this thread.
   */
  readonly thread: "worker" | "own";
  /** Longest sequence in tokens. @default what the model was trained for */
  readonly context?: number | undefined;
  /** How weight matrices are held. @default "auto" */
  readonly weights?: WeightFormat;
  /** Upper bound on KV memory in bytes. */
  readonly kvBytes: number;
  /** Settings of the WebGPU backend. */
  readonly gpu?: GpuSettings;
  /** Threads the model computes with, where the backend has threads. @default 1 */
  readonly threads?: number;
  /** Four bytes that all models of the process share, so that they leave each other room. */
  readonly running?: SharedArrayBuffer;
  /** Unix seconds, for listings. */
  readonly created: number;
  readonly ownedBy: string;
  /** Id of a model that may draft for this one. */
  readonly draft?: string | undefined;
}

/** A served model that can be closed. */
export interface LoadedModel extends CatalogEntry, AsyncDisposable {
  readonly engine: Engine;
  /** False while a lost device is being replaced. */
  isReady(): boolean;
  /** What it runs on: adapter, memory, modes; see `Backend.details`. */
  readonly details: Readonly<Record<string, string | number | boolean>>;
}

/** Slots per KV page. */
const PAGE_SIZE = 16;
/** A pool never needs more than this many full sequences. */
const MAX_SEQUENCES = 128;
/** Tensors up to this size go into the fingerprint whole: norms, biases, small models. */
const FINGERPRINT_BYTES = 1 << 20;

/**
 * Loads a folder in Hugging Face layout, a .gguf file, or a .safetensors file beside its config.json.
 *
 * @throws {FormatError} if a file is damaged or not supported, naming what
 * @throws {NotFoundError} if a needed file is missing
 * @throws {RangeError} if the context is longer than the model's, or the model does not fit into the
 * backend's memory
 */
export async function loadModel(path: string, options: LoadOptions): Promise<LoadedModel> {
  const { id, backend, weights: format = "auto", created, ownedBy, draft } = options;
  const { config, vocab, weights } = await openModelFiles(path);
  using source = weights;
  requireSameVocab(config, vocab);
  const contextLength = options.context ?? usableContext(config);
  const spec = {
    path,
    backend,
    weights: format,
    contextLength,
    vocab: vocab.size,
    pageSize: PAGE_SIZE,
    pages: pagesFor(config, contextLength, options),
    adapterFiles: await listAdapterFiles(path),
    ...options.gpu === undefined ? {} : { gpu: options.gpu },
    threads: options.threads ?? 1,
    ...(options.running === undefined ? {} : { running: options.running }),
  };
  const start = options.thread === "worker" ? createWorkerExecutor : createModelExecutor;
  const executor: ModelExecutor = await start(spec);
  const servedBy = executor.info.backend;
  const fingerprint = fingerprintOf(config, vocab, source, [
    servedBy,
    format,
    ...usesHalfKv(options) ? ["kv f16"] : [],
  ]);
  const engine = createEngine({ id, vocab, executor });
  return {
    engine,
    isReady: () => executor.isReady,
    details: executor.info.details ?? {},
    model: engine,
    info: {
      id,
      created,
      ownedBy,
      fingerprint,
      servedBy,
      contextLength,
      parameters: executor.parameters,
      ...(draft === undefined ? {} : { draft }),
    },
    [Symbol.asyncDispose]: () => engine[Symbol.asyncDispose](),
  };
}

/** Padding rows beyond the tokenizer's ids are usual; missing rows are not. */
function requireSameVocab(config: ModelConfig, vocab: Vocab): void {
  if (vocab.size <= config.vocab) return;
  throw new FormatError(
    `the tokenizer has ${vocab.size} tokens, the model only ${config.vocab}`,
    { source: "tokenizer" },
  );
}

function usesHalfKv({ backend, gpu }: Pick<LoadOptions, "backend" | "gpu">): boolean {
  return backend === "webgpu" && gpu?.kv === "f16";
}

function pagesFor(
  config: ModelConfig,
  contextLength: number,
  options: Pick<LoadOptions, "backend" | "gpu" | "kvBytes">,
): number {
  const { layers, kvHeads, headDim } = config;
  const valueBytes = usesHalfKv(options) ? 2 : 4;
  const pageBytes = 2 * layers * kvHeads * headDim * PAGE_SIZE * valueBytes;
  const perSequence = Math.ceil(contextLength / PAGE_SIZE);
  return Math.max(
    perSequence + 1,
    Math.min(Math.floor(options.kvBytes / pageBytes), MAX_SEQUENCES * perSequence),
  );
}

/** Changes with weights and how they are held, tokenizer and backend; reads small tensors only. */
function fingerprintOf(
  config: ModelConfig,
  vocab: Vocab,
  weights: WeightSource,
  computedBy: readonly string[],
): string {
  const hash = createHash("sha256");
  hash.update(JSON.stringify([config, vocab.fingerprint, ...computedBy]));
  for (const name of [...weights.names()].sort()) {
    const shape = weights.shape(name);
    hash.update(JSON.stringify([name, weights.dtype(name), shape]));
    const elements = shape.reduce((product, size) => product * size, 1);
    if (elements * 4 <= FINGERPRINT_BYTES) hash.update(weights.raw(name));
  }
  return `fp_${hash.digest("hex").slice(0, 16)}`;
}
