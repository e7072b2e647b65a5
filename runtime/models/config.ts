/** ModelConfig: the numbers that decide a decoder's shape, whatever file they came from. */
import { FormatError } from "../errors.ts";

/** Complete and validated; see {@link checkConfig}. Dimensions are counts, not bytes. */
export interface ModelConfig {
  /** Key of the registry in mod.ts, as Hugging Face writes it: "LlamaForCausalLM". */
  readonly architecture: string;
  readonly vocab: number;
  readonly hidden: number;
  readonly ffn: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Added to the mean square in every RMS norm. */
  readonly normEps: number;
  /** Longest sequence in tokens the model was made for. */
  readonly contextLength: number;
  /** Tokens a position attends to, itself included. Undefined: all before it. */
  readonly slidingWindow: number | undefined;
  /** Whether the output layer is the embedding table. */
  readonly tieEmbeddings: boolean;
  /** Whether the linear layers have a bias: q, k and v; attention output; feed-forward. */
  readonly bias: { readonly qkv: boolean; readonly output: boolean; readonly ffn: boolean };
  readonly rope: RopeConfig;
}

/** Rotary embedding before its frequencies are computed. */
export interface RopeConfig {
  /** See `Rope.layout`. */
  readonly layout: "half" | "pairs";
  readonly theta: number;
  readonly scaling: RopeScaling;
}

/** How frequencies are stretched for contexts longer than the original one. */
export type RopeScaling =
  | { readonly kind: "none" }
  /** All frequencies divided by `factor`. */
  | { readonly kind: "linear"; readonly factor: number }
  /** As in Llama 3.1: slow frequencies divided by `factor`, fast ones kept, a ramp between. */
  | {
    readonly kind: "llama3";
    readonly factor: number;
    readonly lowFreqFactor: number;
    readonly highFreqFactor: number;
    readonly originalContext: number;
  };

/** Largest value of each dimension; anything above is a damaged or hostile file. */
export const limits = {
  vocab: 1 << 22,
  hidden: 1 << 17,
  ffn: 1 << 20,
  layers: 1024,
  heads: 4096,
  headDim: 1024,
  contextLength: 1 << 24,
} as const;

/**
 * Checks what must hold between fields.
 *
 * @throws {FormatError} naming the field
 */
export function checkConfig(config: ModelConfig, source: string): ModelConfig {
  const fail = (message: string): never => {
    throw new FormatError(message, { source });
  };
  const { heads, kvHeads, headDim, rope } = config;
  if (heads % kvHeads !== 0) {
    fail(`number of attention heads ${heads} is not a multiple of key-value heads ${kvHeads}`);
  }
  if (headDim % 2 !== 0) fail(`head dimension ${headDim} is odd, rotary embedding needs pairs`);
  if (rope.scaling.kind === "llama3") {
    const { lowFreqFactor, highFreqFactor } = rope.scaling;
    if (highFreqFactor <= lowFreqFactor) {
      fail(`high_freq_factor ${highFreqFactor} must be above low_freq_factor ${lowFreqFactor}`);
    }
  }
  return config;
}

/**
 * Longest context the forward pass computes exactly: a sliding window is not implemented, so it ends
 * where the window would begin to matter.
 */
export function usableContext(config: ModelConfig): number {
  return Math.min(config.contextLength, config.slidingWindow ?? Infinity);
}

/** @throws {RangeError} if `contextLength` is not a whole number from 1 to the usable context */
export function requireContext(config: ModelConfig, contextLength: number): void {
  if (!Number.isSafeInteger(contextLength) || contextLength < 1) {
    throw new RangeError(`A context length must be a whole number from 1, got ${contextLength}`);
  }
  if (contextLength > config.contextLength) {
    throw new RangeError(
      `Cannot use a context of ${contextLength}: the model was made for ${config.contextLength}`,
    );
  }
  if (contextLength > usableContext(config)) {
    throw new RangeError(
      `Cannot use a context of ${contextLength}: the model attends to a sliding window of ` +
        `${config.slidingWindow}, beyond which results would not be exact`,
    );
  }
}
