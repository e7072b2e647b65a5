/** A small random Llama with made-up adapters under an engine, on the backends of this process's memory. */
import { createCpuBackend } from "../../../runtime/backend/cpu/mod.ts";
import { createWasmBackend } from "../../../runtime/backend/wasm/mod.ts";
import { createEngine, type Engine, type EngineLimits } from "../../../runtime/engine/engine.ts";
import { createLocalExecutor } from "../../../runtime/engine/local_executor.ts";
import type { KvPolicy } from "../../../runtime/kv/policy.ts";
import { findPolicy } from "../../../bench/kv/_controls.ts";
import { loadDecoder } from "../../../runtime/models/mod.ts";
import { hashedWeights, llamaShapes, tinyConfig } from "../../fakes/hashed_weights.ts";
import { fakeAdapters } from "../../fakes/kv_adapters.ts";
import { fakeVocab } from "../../fakes/mod.ts";

export const backends = { CPU: createCpuBackend, WASM: createWasmBackend } as const;
export const smallPage = 4;

/** How to open one. */
export interface Options {
  /** @default the registry and the controls of benches */
  readonly findPolicy?: (name: string) => KvPolicy;
  readonly pages?: number;
  readonly pageSize?: number;
  readonly contextLength?: number;
  readonly limits?: EngineLimits;
}

/** See file comment. */
export function open(
  create: () => ReturnType<typeof createCpuBackend>,
  options: Options = {},
): Engine {
  const { pages = 400, pageSize = smallPage, contextLength = 64, limits = {} } = options;
  const backend = create();
  const decoder = loadDecoder(tinyConfig, hashedWeights(llamaShapes(tinyConfig)), backend);
  const loaded = fakeAdapters(tinyConfig, backend);
  const executor = createLocalExecutor(decoder, backend, {
    pages,
    pageSize,
    contextLength,
    adapters: loaded.flatMap(({ adapter }) => adapter ?? []),
    adapterData: Object.fromEntries(loaded.map(({ name, data }) => [name, data])),
  });
  const pieces = Array.from({ length: tinyConfig.vocab }, (_, i) => String.fromCharCode(97 + i));
  return createEngine({
    id: "tiny",
    vocab: fakeVocab({ pieces }),
    executor,
    limits,
    findPolicy: options.findPolicy ?? findPolicy,
    separators: new Set([3, 7, 11]),
  });
}

/** So many tokens. */
export const tokensOf = (count: number) =>
  Array.from({ length: count }, (_, i) => (i * i + 7 * i) % tinyConfig.vocab);
