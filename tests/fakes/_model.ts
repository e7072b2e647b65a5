/** A LanguageModel around a brain. */
import {
  type Capability,
  ContextLengthError,
  encodePrompt,
  type LanguageModel,
  type Meter,
  type Vocab,
} from "../../runtime/mod.ts";
import { FakeEngine, type FakeStats } from "./_engine.ts";
import { type FakeBrain, FakeSession } from "./_session.ts";

/** Every capability there is. */
export const allCapabilities: readonly Capability[] = [
  "generate",
  "sample",
  "edit",
  "topk",
  "score",
  "logits",
  "entropy",
  "hidden",
  "tree",
];

/** Settings common to the fakes. */
export interface FakeModelOptions {
  /** @default "fake" */
  readonly id?: string;
  /** @default 1024 */
  readonly contextLength?: number;
  /** @default the full cache alone */
  readonly checkKv?: LanguageModel["checkKv"];
  /** What the model claims to do. @default everything */
  readonly capabilities?: readonly Capability[];
  /** All asks of this step (counted from 1) reject with an EngineError. @default never */
  readonly failAtStep?: number;
}

/** A fake and its counters. */
export interface FakeModel extends LanguageModel {
  readonly vocab: Vocab;
  readonly stats: FakeStats;
  /** Hold all steps until `resume()`. */
  pause(): void;
  resume(): void;
}

/** A model that computes with `brain` and answers on the next event-loop turn. */
export function fakeModel(
  brain: Omit<FakeBrain, "contextLength">,
  options: FakeModelOptions = {},
): FakeModel {
  const { id = "fake", contextLength = 1024, capabilities = allCapabilities, checkKv } = options;
  const { vocab } = brain;
  const engine = new FakeEngine(options.failAtStep);
  const full: FakeBrain = {
    vocab,
    contextLength,
    logits: (tokens) => brain.logits(tokens),
    hidden: (tokens, layer) => brain.hidden(tokens, layer),
  };
  const billed = new WeakSet<Meter>();
  return {
    id,
    vocab,
    contextLength,
    capabilities: new Set(capabilities),
    ...checkKv ? { checkKv } : {},
    stats: engine.stats,
    pause: () => engine.pause(),
    resume: () => engine.resume(),
    session(prompt, { rollback = 0, chat, scope } = {}) {
      const tokens = encodePrompt(prompt, vocab, { model: id, ...chat ? { chat } : {} });
      if (tokens.length > contextLength) {
        throw new ContextLengthError(tokens.length, 0, contextLength);
      }
      if (scope && !billed.has(scope.meter)) {
        billed.add(scope.meter);
        scope.meter.promptTokens += tokens.length;
      }
      return new FakeSession(engine, full, {
        tokens,
        promptLength: tokens.length,
        rollback,
        scope,
        committed: 0,
        computed: 0,
      });
    },
  };
}
