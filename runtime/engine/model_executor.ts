/** From a model's files to an executor in this thread. */
import { selectBackend } from "../backend/select.ts";
import { openWeightFiles } from "../model_files.ts";
import { loadDecoder, type WeightFormat } from "../models/mod.ts";
import type { Executor } from "./executor.ts";
import { createLocalExecutor, type LocalExecutorOptions } from "./local_executor.ts";

/** Plain data, so that it can be sent to a Worker. */
export interface ModelExecutorSpec extends LocalExecutorOptions {
  /** Folder or weight file, see `model_files.ts`. */
  readonly path: string;
  /** Name of the backend, or "auto". */
  readonly backend: string;
  /** How weight matrices are held. @default "file" */
  readonly weights?: WeightFormat;
}

/** An executor that knows how large its model is. */
export interface ModelExecutor extends Executor {
  /** Number of weights. */
  readonly parameters: number;
}

/**
 * Loads the weights and builds the forward pass on a backend of its own.
 *
 * @throws {FormatError | NotFoundError} if a file is damaged, not supported or missing
 * @throws {RangeError} if the context is longer than the model's
 */
export async function createModelExecutor(spec: ModelExecutorSpec): Promise<ModelExecutor> {
  const backend = await selectBackend(spec.backend);
  try {
    const { config, weights } = await openWeightFiles(spec.path);
    using source = weights;
    const decoder = loadDecoder(config, source, backend, { weights: spec.weights ?? "file" });
    const executor = createLocalExecutor(decoder, backend, spec);
    return {
      info: executor.info,
      parameters: decoder.parameters,
      execute: (batch) => executor.execute(batch),
      async [Symbol.asyncDispose]() {
        await executor[Symbol.asyncDispose]();
        backend[Symbol.dispose]();
      },
    };
  } catch (error) {
    backend[Symbol.dispose]();
    throw error;
  }
}
