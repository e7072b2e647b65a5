/** Engines over the fake executor, for tests. */
import { createEngine, type Engine, type EngineOptions } from "../../../runtime/engine/engine.ts";
import { createMeter, type RequestScope } from "../../../runtime/mod.ts";
import {
  createFakeExecutor,
  type FakeExecutor,
  type FakeExecutorOptions,
} from "../../fakes/fake_executor.ts";
import { letterVocab } from "../../fakes/mod.ts";

/** An engine and what is below it. */
export interface FakeEngineSetup extends AsyncDisposable {
  readonly engine: Engine;
  readonly executor: FakeExecutor;
}

/** Pages are poisoned when they are freed; closing checks that none is lost. */
export function fakeEngine(
  executorOptions: Partial<FakeExecutorOptions> = {},
  options: Partial<Pick<EngineOptions, "limits" | "findPolicy" | "separators">> = {},
): FakeEngineSetup {
  const vocab = letterVocab();
  const executor = createFakeExecutor({ vocab: vocab.size, ...executorOptions });
  const engine = createEngine({
    id: "fake",
    vocab,
    executor,
    ...options,
    onPageFree: (page, parts) => executor.poison(page, parts),
  });
  return {
    engine,
    executor,
    async [Symbol.asyncDispose]() {
      engine.checkPages();
      await engine[Symbol.asyncDispose]();
    },
  };
}

/** A request of its own. */
export function testScope(
  options: { signal?: AbortSignal; salt?: string; kv?: RequestScope["kv"] } = {},
): RequestScope {
  const { signal = new AbortController().signal, salt = "", kv } = options;
  return { id: "request", signal, meter: createMeter(), cacheSalt: salt, ...kv ? { kv } : {} };
}

/** Tokens 0, 1, 2, ... of the letter vocabulary, shifted by `seed`. */
export function letters(count: number, seed = 0): number[] {
  return Array.from({ length: count }, (_, i) => (i * 7 + seed * 3 + (i >> 2)) % 17);
}
