/**
 * What one draw costs by vocabulary and filter, in the reference sampler and by the kernels of the
 * WebAssembly backend, the row's log-probability and entropy included.
 */
import type { DrawSpec } from "../../runtime/backend/backend.ts";
import { createWasmBackend, isWasmSupported } from "../../runtime/backend/wasm/mod.ts";
import { greedySampling, type SamplingParams, seedFrom } from "../../runtime/mod.ts";
import { sampleRow, topK } from "../../runtime/sampling.ts";
import { type Report, summary } from "../_report.ts";

const cases: Readonly<Record<string, Partial<SamplingParams>>> = {
  greedy: { temperature: 0 },
  "temperature 1": {},
  "top-k 40": { topK: 40 },
  "top-p 0.9": { topP: 0.9 },
  "top-k 40, top-p 0.9, min-p 0.05": { topK: 40, topP: 0.9, minP: 0.05 },
  "min-p 0.05": { minP: 0.05 },
  "typical-p 0.9": { typicalP: 0.9 },
};
const vocabularies = [2048, 32_000, 151_936];
/** Most likely tokens that are asked for beside draws. */
const TOP = 20;

/** One draw, and one question for the most likely tokens. */
interface Sampler {
  readonly name: string;
  /** Undefined where it does not draw so. */
  readonly draw: (sampling: SamplingParams) => ((position: number) => void) | undefined;
  readonly top: () => void;
}

/** Measures every case at every size. */
export function benchSampling(report: Report): void {
  for (const vocab of vocabularies) {
    const logits = bellRow(vocab);
    using backend = isWasmSupported() ? createWasmBackend() : undefined;
    const samplers = [reference(logits), ...backend ? [kernels(backend, logits)] : []];
    const measure = (filter: string, run: (sampler: Sampler) => Run | undefined) => {
      const runs = samplers.flatMap(({ name }, i) => {
        const once = run(samplers[i]!);
        return once === undefined ? [] : [{ name, once, times: [] as number[] }];
      });
      const draws = Math.ceil(400_000 / vocab);
      for (let turn = 0; turn < 25; turn++) {
        for (const { once, times } of runs) {
          const start = performance.now();
          for (let i = 0; i < draws; i++) once(turn * draws + i);
          if (turn >= 5) times.push((performance.now() - start) * 1000 / draws);
        }
      }
      for (const { name: sampler, times } of runs) {
        report({
          name: `sampling/${filter}`,
          sampler,
          vocab,
          warm_up: 5,
          draws_per_run: draws,
          unit: "us per draw",
          ...summary(times),
        });
      }
    };
    for (const [filter, changes] of Object.entries(cases)) {
      const sampling = { ...greedySampling, temperature: 1, seed: seedFrom(1), ...changes };
      measure(filter, ({ draw }) => draw(sampling));
    }
    measure(`best ${TOP}`, ({ top }) => top);
  }
}

type Run = (position: number) => void;

function reference(logits: Float32Array): Sampler {
  return {
    name: "reference",
    draw: (sampling) => (position) => {
      const options = { sampling, topLogprobs: 0, promptTokens: [], completionTokens: [] };
      const { logprob } = sampleRow(logits, { ...options, position });
      if (Number.isNaN(logprob)) throw new Error("A draw has no log-probability");
    },
    top: () => void topK(logits, TOP),
  };
}

function kernels(backend: ReturnType<typeof createWasmBackend>, logits: Float32Array): Sampler {
  const vocab = logits.length, x = backend.tensor("logits", [1, vocab], "f32", logits);
  const none = { row: 0, promptTokens: [], completionTokens: [] };
  return {
    name: "wasm",
    draw(sampling) {
      if (!backend.canDraw!({ ...none, position: 0, sampling }, vocab)) return undefined;
      return (position) => {
        const draw: DrawSpec = { ...none, position, sampling };
        backend.record((ops) => void ops.draw!(x, vocab, [draw]));
      };
    },
    top: () => void backend.summarise!(x, vocab, [{ row: 0, top: TOP }]),
  };
}

/** Logits spread like a language model's: most far below the best few. */
function bellRow(vocab: number): Float32Array {
  return Float32Array.from({ length: vocab }, (_, i) => {
    const uniform = (Math.imul(i + 1, 0x9e3779b1) >>> 0) / 4294967296;
    return 2.5 * Math.log((uniform + 1e-6) / (1 - uniform + 1e-6));
  });
}
