/** Rotary frequencies with their scaling rules applied. */
import type { RopeConfig } from "./config.ts";

/**
 * Radians per position of each pair: theta^(-2i / headDim), then scaled.
 *
 * Source: Su et al. 2021, https://arxiv.org/abs/2104.09864, section 3.2.2. "linear": Chen et al.
 * 2023, https://arxiv.org/abs/2306.15595. "llama3": Llama 3.1 reference code, `apply_scaling`.
 *
 * @returns [headDim / 2], double precision
 */
export function ropeFrequencies(headDim: number, rope: RopeConfig): Float64Array {
  const { theta, scaling } = rope;
  return Float64Array.from({ length: headDim / 2 }, (_, i) => {
    const frequency = theta ** (-2 * i / headDim);
    if (scaling.kind === "linear") return frequency / scaling.factor;
    if (scaling.kind === "llama3") return frequency / llama3Divisor(frequency, scaling);
    return frequency;
  });
}

/** 1 for waves short against the original context, `factor` for long ones, smooth between. */
function llama3Divisor(
  frequency: number,
  scaling: Extract<RopeConfig["scaling"], { kind: "llama3" }>,
): number {
  const { factor, lowFreqFactor, highFreqFactor, originalContext } = scaling;
  const turns = originalContext * frequency / (2 * Math.PI);
  if (turns < lowFreqFactor) return factor;
  if (turns > highFreqFactor) return 1;
  const smooth = (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
  return 1 / ((1 - smooth) / factor + smooth);
}
