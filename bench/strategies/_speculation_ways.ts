/** Ways to speculate, and what each has to equal. */
import type { Way } from "./_run.ts";

/** A way and what it is measured against. */
export interface FastWay extends Way {
  readonly label: string;
  readonly plain: Way;
  /** Whether its tokens have to be the plain ones. */
  readonly same: "always" | "greedy" | "never";
}

const sampled: Way = { strategy: "sample" };

function drafted(
  label: string,
  params: Way["params"] = {},
  same: FastWay["same"] = "always",
): FastWay {
  return { label, strategy: "speculative", params, plain: sampled, same };
}

function combined(
  label: string,
  params: Readonly<Record<string, unknown>>,
): readonly FastWay[] {
  const strategy = "speculative-ensemble";
  const plain = { strategy, params: { ...params, framework: "plain" } };
  return ["naive", "alternate"].map((framework) => ({
    label: `${label}, ${framework}`,
    strategy,
    params: { ...params, framework },
    plain,
    same: "greedy" as const,
  }));
}

/** In the order of the table. */
export const speculations: readonly FastWay[] = [
  drafted("draft model, coupled"),
  drafted("draft model, ratio", { verify: "ratio" }, "greedy"),
  drafted("draft model, block", { verify: "block" }, "greedy"),
  drafted("draft model, coupled, ema", { gamma_schedule: "ema" }),
  drafted("draft model, trees of 16", { tree_nodes: 16 }),
  drafted("draft model, trees of 16, ratio", { tree_nodes: 16, verify: "ratio" }, "greedy"),
  drafted("prompt-lookup", { draft: "prompt-lookup", gamma: 10 }),
  drafted("suffix", { draft: "suffix", gamma: 10 }),
  drafted("token-recycling", { draft: "token-recycling" }),
  drafted("token-recycling, trees of 16", { draft: "token-recycling", tree_nodes: 16 }),
  ...combined("weighted 0.5", {}),
  ...combined("contrastive 0.1", { combine: "contrastive" }),
];

/** @throws {Error} if tokens differ that must not */
export function requireSame(
  { label, same }: FastWay,
  temperature: number,
  plain: readonly number[],
  fast: readonly number[],
): void {
  const bound = same === "always" || (same === "greedy" && temperature === 0);
  if (!bound || plain.join() === fast.join()) return;
  throw new Error(`${label} gave ${fast} where plain decoding gives ${plain}`);
}
