/** From a model's files to an executor in this thread. */
import type { Backend } from "../backend/backend.ts";
import { type GpuSettings, selectBackend } from "../backend/select.ts";
import { DeviceLostError } from "../errors.ts";
import { openSafetensors } from "../formats/safetensors.ts";
import type { WeightSource } from "../formats/weights.ts";
import { openWeightFiles } from "../model_files.ts";
import { normsDigest, requireBase } from "../models/adapters/base.ts";
import { loadAdapter, type LoadedAdapter } from "../models/adapters/mod.ts";
import { loadDecoder, type ModelConfig, type WeightFormat } from "../models/mod.ts";
import type { Executor } from "./executor.ts";
import { createLocalExecutor, type LocalExecutorOptions } from "./local_executor.ts";
import { requireMemory } from "./memory_need.ts";
import { createRecoveringExecutor, type OpenedExecutor } from "./recovering_executor.ts";

/** Plain data, so that it can be sent to a Worker. */
export interface ModelExecutorSpec extends LocalExecutorOptions {
  /** Folder or weight file, see `model_files.ts`. */
  readonly path: string;
  /** Name of the backend, or "auto". */
  readonly backend: string;
  /** How weight matrices are held. @default "file" */
  readonly weights?: WeightFormat;
  /** Files of learned weights for KV policies. @default none */
  readonly adapterFiles?: readonly string[];
  /** Settings of the WebGPU backend. */
  readonly gpu?: GpuSettings;
  /** Threads of the WebAssembly backend, the one that loads included. @default 1 */
  readonly threads?: number;
  /** What the models of a process share to know how many compute, see `BackendSettings`. */
  readonly running?: SharedArrayBuffer;
}

/** An executor that knows how large its model is. */
export interface ModelExecutor extends Executor {
  /** Number of weights. */
  readonly parameters: number;
  /** False while a lost device is being replaced. */
  readonly isReady: boolean;
}

/**
 * Loads the weights and builds the forward pass on a backend of its own. If its device is lost, it is
 * opened and the weights are loaded again.
 *
 * @param onReady told when a device is lost and when the model is back
 * @throws {FormatError | NotFoundError} if a file is damaged, not supported or missing
 * @throws {RangeError} if the context is longer than the model's
 */
export async function createModelExecutor(
  spec: ModelExecutorSpec,
  onReady?: (isReady: boolean) => void,
): Promise<ModelExecutor> {
  return await createRecoveringExecutor(() => open(spec), onReady ? { onReady } : {});
}

async function open(
  spec: ModelExecutorSpec,
): Promise<OpenedExecutor<Omit<ModelExecutor, "isReady">>> {
  const { gpu, threads = 1, running } = spec;
  const shared = running === undefined ? {} : { running };
  const backend = await selectBackend(spec.backend, { ...gpu, threads, ...shared });
  try {
    const { config, weights } = await openWeightFiles(spec.path);
    using source = weights;
    const format = spec.weights ?? "file";
    requireMemory(config, source, backend, { ...spec, format });
    const adapters = openAdapters(spec.adapterFiles ?? [], config, source, backend);
    const decoder = loadDecoder(config, source, backend, { weights: format });
    const executor = createLocalExecutor(decoder, backend, { ...spec, ...adapters });
    return {
      lost: backend.lost,
      executor: {
        info: executor.info,
        parameters: decoder.parameters,
        execute: async (batch) => {
          try {
            return await executor.execute(batch);
          } catch (error) {
            throw await lossBehind(error, backend.lost);
          }
        },
        async [Symbol.asyncDispose]() {
          await executor[Symbol.asyncDispose]();
          backend[Symbol.dispose]();
        },
      },
    };
  } catch (error) {
    backend[Symbol.dispose]();
    throw error;
  }
}

/** How long news of a lost device may be on its way after the errors it causes, in ms. */
const newsMs = 200;

/** The loss of the device that a failure comes from, if there is one; otherwise the failure. */
async function lossBehind(error: unknown, lost: Promise<string> | undefined): Promise<unknown> {
  if (!lost || error instanceof DeviceLostError) return error;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), newsMs);
  });
  const reason = await Promise.race([lost, silence]);
  clearTimeout(timer);
  return reason === undefined ? error : new DeviceLostError(reason);
}

/** Learned parts of KV policies, in the shape of the executor's options. */
function openAdapters(
  files: readonly string[],
  config: ModelConfig,
  weights: WeightSource,
  backend: Backend,
): Pick<LocalExecutorOptions, "adapters" | "adapterData"> {
  if (files.length === 0) return {};
  const digest = normsDigest(config, weights);
  const loaded: LoadedAdapter[] = [];
  try {
    for (const path of files) {
      using file = openSafetensors(path);
      requireBase(file.metadata, digest);
      loaded.push(loadAdapter(file, config, backend));
    }
  } catch (error) {
    for (const { adapter } of loaded) adapter?.[Symbol.dispose]();
    throw error;
  }
  return {
    adapters: loaded.flatMap(({ adapter }) => adapter ?? []),
    adapterData: Object.fromEntries(loaded.map(({ name, data }) => [name, data])),
  };
}
