/** What one draw costs in the reference sampler, by vocabulary and filter. */
import { greedySampling, type SamplingParams, seedFrom } from "../../runtime/mod.ts";
import { sampleRow } from "../../runtime/sampling.ts";
import { type Report, summary } from "../_report.ts";

const cases: Readonly<Record<string, Partial<SamplingParams>>> = {
  greedy: { temperature: 0 },
  "temperature 1": {},
  "top-k 50": { topK: 50 },
  "top-p 0.9": { topP: 0.9 },
  "min-p 0.05": { minP: 0.05 },
  "typical-p 0.9": { typicalP: 0.9 },
};

/** Measures every case at two sizes. */
export function benchSampling(report: Report): void {
  for (const vocab of [2048, 151_936]) {
    const logits = bellRow(vocab);
    for (const [filter, changes] of Object.entries(cases)) {
      const sampling = { ...greedySampling, temperature: 1, seed: seedFrom(1), ...changes };
      const draws = Math.ceil(400_000 / vocab);
      const times: number[] = [];
      for (let run = 0; run < 25; run++) {
        const start = performance.now();
        for (let i = 0; i < draws; i++) draw(logits, sampling, run * draws + i);
        if (run >= 5) times.push((performance.now() - start) * 1000 / draws);
      }
      report({
        name: `sampling/${filter}`,
        vocab,
        warm_up: 5,
        draws_per_run: draws,
        unit: "us per draw",
        ...summary(times),
      });
    }
  }
}

function draw(logits: Float32Array, sampling: SamplingParams, position: number): void {
  const options = { sampling, topLogprobs: 0, promptTokens: [], completionTokens: [], position };
  const { logprob } = sampleRow(logits, options);
  if (Number.isNaN(logprob)) throw new Error("A draw has no log-probability");
}

/** Logits spread like a language model's: most far below the best few. */
function bellRow(vocab: number): Float32Array {
  return Float32Array.from({ length: vocab }, (_, i) => {
    const uniform = (Math.imul(i + 1, 0x9e3779b1) >>> 0) / 4294967296;
    return 2.5 * Math.log((uniform + 1e-6) / (1 - uniform + 1e-6));
  });
}
