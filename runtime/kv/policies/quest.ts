/** quest: reads the pages that may hold the largest scores; drops nothing. */
import * as z from "zod";
import { checkBudget, sinksParam } from "./_params.ts";
import type { KvPolicy } from "../policy.ts";

const params = z.strictObject({
  budget: z.int().min(1).default(256).describe("Tokens read per new token, layer and KV head."),
  sinks: sinksParam,
  window: z.int().min(1).default(32).describe("Newest tokens, which are always read."),
  dense_layers: z.int().min(0).default(2).describe("So many first layers read everything."),
});
type Params = z.infer<typeof params>;

/**
 * Source: Tang et al. 2024, https://arxiv.org/abs/2406.10774. The whole cache stays in memory; what is saved is
 * reading it. Differs: pages are chosen per KV head, not per query head, and sinks and window are
 * always read.
 */
export const quest: KvPolicy<null, Params> = {
  name: "quest",
  source: "https://arxiv.org/abs/2406.10774",
  summary: "Reads only pages that may matter to the current token; frees no memory",
  family: "read-sparsity",
  lossless: false,
  granularity: "sequence",
  signals: [],
  params,
  schedule: () => ({ prompt: Infinity, decode: Infinity }),
  densePrompt: () => true,
  reads: ({ budget, sinks, window, dense_layers }) => ({
    score: "bounds",
    budget,
    sinks,
    window,
    denseLayers: dense_layers,
    densePrefill: true,
  }),
  check: (params, model) => checkBudget("quest", { ...params, format: "f32" }, model),
  init: () => null,
  fork: () => null,
  plan: (state) => ({ state, edits: [] }),
};
