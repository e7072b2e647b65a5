/** Which policies are measured, and what a share of kept tokens means to each. */
import type { KvChoice } from "../../runtime/mod.ts";

/** What a policy saves; only points of one family compare. */
export type Family = "full" | "kept" | "read" | "bits";

/** A prompt as policies have to deal with it. */
export interface PromptShape {
  readonly tokens: number;
  /** How many of them are separators. */
  readonly separators: number;
}

/** One line of a figure. */
export interface Entry {
  readonly label: string;
  readonly family: Family;
  /** Shares of kept (or read) tokens that it can be asked for; [1] = no choice. */
  readonly ratios: readonly number[];
  choice(ratio: number, prompt: PromptShape, seed: number): KvChoice;
}

export const RATIOS = [0.05, 0.1, 0.25, 0.5, 1] as const;

/** Sinks and window within a budget: the same for all that have both. */
function split(budget: number) {
  const sinks = Math.min(4, Math.floor(budget / 4));
  return { sinks, window: Math.max(1, Math.min(16, Math.floor((budget - sinks) / 2))) };
}

const budgetOf = (ratio: number, { tokens }: PromptShape) =>
  Math.max(2, Math.round(ratio * tokens));

function ranked(name: string, extra: Readonly<Record<string, unknown>> = {}): Entry {
  return {
    label: name,
    family: "kept",
    ratios: RATIOS,
    choice(ratio, prompt, seed) {
      const budget = budgetOf(ratio, prompt);
      const own = name === "random" ? { seed } : {};
      return { name, params: { budget, ...split(budget), ...extra, ...own } };
    },
  };
}

export function reading(
  name: string,
  extra: Readonly<Record<string, unknown>> = {},
  label = name,
): Entry {
  return {
    label,
    family: "read",
    ratios: RATIOS,
    choice(ratio, prompt) {
      const budget = budgetOf(ratio, prompt);
      const { sinks } = split(budget);
      const window = Math.max(1, Math.min(8, Math.floor((budget - sinks) / 2)));
      const least = sinks + window + 4; // one block of a forecast
      return { name, params: { budget: Math.max(budget, least), sinks, window, ...extra } };
    },
  };
}

export const fixed = (label: string, family: Family, params = {}, name = label): Entry => ({
  label,
  family,
  ratios: [1],
  choice: () => ({ name, params }),
});

/** What is added to the logit of `global`: the other way to choose a share. */
const NATS_BIASES = [-8, -6, -4, 0, 4];

/** In the order of the tables. Decode-time policies evict every 8 tokens. */
export const ENTRIES: readonly Entry[] = [
  fixed("full", "full"),
  {
    label: "streaming",
    family: "kept",
    ratios: RATIOS,
    choice(ratio, prompt) {
      const budget = budgetOf(ratio, prompt), { sinks } = split(budget);
      return { name: "streaming", params: { sinks, window: budget - sinks, interval: 8 } };
    },
  },
  {
    label: "window (no sinks)",
    family: "kept",
    ratios: RATIOS,
    choice: (ratio, prompt) => ({
      name: "streaming",
      params: { sinks: 0, window: budgetOf(ratio, prompt), interval: 8 },
    }),
  },
  ranked("random", { interval: 8 }),
  {
    label: "sepllm",
    family: "kept",
    ratios: RATIOS,
    choice(ratio, prompt) {
      const budget = budgetOf(ratio, prompt), { sinks } = split(budget);
      const window = Math.max(4, budget - sinks - prompt.separators);
      return { name: "sepllm", params: { sinks, window, interval: 8 } };
    },
  },
  ranked("h2o", { interval: 8 }),
  ranked("tova", { interval: 8 }),
  ranked("snapkv"),
  {
    label: "pyramidkv",
    family: "kept",
    ratios: RATIOS,
    choice(ratio, prompt) {
      const budget = budgetOf(ratio, prompt), { sinks } = split(budget);
      // With a larger window it is snapkv: the top layer would keep less than the window.
      return {
        name: "pyramidkv",
        params: { budget, sinks, window: Math.max(1, Math.floor(budget / 21)) },
      };
    },
  },
  ranked("expected-attention"),
  ranked("key-norm", { interval: 8 }),
  ranked("key-diff", { interval: 8 }),
  ...NATS_BIASES.map((bias) =>
    fixed(`nats (bias ${bias})`, "kept", { global_bias: bias, interval: 8 }, "nats")
  ),
  reading("oracle", { dense_layers: 1 }),
  reading("quest", { dense_layers: 1 }),
  reading("tokenbutler"),
  ...["network", "mean-rows", "last-row"].map((forecast) =>
    reading("attention-predictor", { forecast }, `attention-predictor (${forecast})`)
  ),
  fixed("int8", "bits"),
  fixed("int4", "bits"),
  fixed("int4 (keys per token)", "bits", { keys: "token" }, "int4"),
];
