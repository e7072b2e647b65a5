/** The engine over the fake executor, under the laws of every model, in roomy and in tight pools. */
import { createEngine, type EngineLimits } from "../../../runtime/engine/engine.ts";
import { testLanguageModel } from "../../conformance/language_model.ts";
import { createFakeExecutor, type FakeExecutorOptions } from "../../fakes/fake_executor.ts";
import { letterVocab } from "../../fakes/mod.ts";

function openEngine(options: Partial<FakeExecutorOptions>, limits: EngineLimits) {
  const vocab = letterVocab();
  const executor = createFakeExecutor({ vocab: vocab.size, contextLength: 96, ...options });
  const model = createEngine({
    id: "fake",
    vocab,
    executor,
    limits,
    onPageFree: (page) => executor.poison(page),
  });
  return {
    model,
    openSessions: () => model.stats().openSessions,
    async close() {
      model.checkPages();
      await model[Symbol.asyncDispose]();
    },
  };
}

testLanguageModel("engine", () => openEngine({ pages: 400 }, {}));
testLanguageModel(
  "engine with small steps",
  () => openEngine({ pages: 400 }, { stepTokens: 6, chunkTokens: 4 }),
);
testLanguageModel(
  "engine with a tight pool",
  () => openEngine({ pages: 26 }, { stepTokens: 16, chunkTokens: 8 }),
);
testLanguageModel(
  "engine without prefix cache, page size 1",
  () => openEngine({ pages: 1600, pageSize: 1 }, { cachedPages: 0 }),
);
