/**
 * tokenbutler: every decode step reads only the tokens that a small learned network ranks highest for
 * the current query. It saves reads, not memory: the whole cache stays, and the record of projected
 * keys comes on top.
 *
 * Source: second generation of https://arxiv.org/abs/2503.07518. Scores, selection and softmax run in
 * the attention kernel ({@link ReadRule}); sinks and the recent window are always read, at most `budget`
 * tokens per KV head, layer 0 reads everything, prompts too. Budgets up to the sequence's length read
 * everything, bit for bit as the full cache.
 */
import * as z from "zod";
import { checkRoom, checkWindow } from "./_params.ts";
import type { KvPolicy, ReadRule } from "../policy.ts";

const usual = { window: 8, sinks: 1 };

const params = z.strictObject({
  budget: z.int().min(1).default(64).describe(
    "Tokens read per KV head and step; more than sinks and window",
  ),
  sinks: z.int().min(0).default(usual.sinks).describe("First tokens, always read"),
  window: z.int().min(1).default(usual.window).describe("Newest tokens, always read"),
});

export type TokenButlerParams = z.output<typeof params>;

/** See file comment. */
export const tokenButler: KvPolicy<null, TokenButlerParams> = {
  name: "tokenbutler",
  source: "https://arxiv.org/abs/2503.07518",
  summary:
    "Reads the tokens that a learned network ranks highest for the query; saves reads, not bytes",
  family: "read-sparsity",
  lossless: false,
  granularity: "sequence",
  signals: [],
  adapter: "tokenbutler",
  params,
  schedule: () => ({ prompt: Infinity, decode: Infinity }),
  densePrompt: () => true,
  reads: ({ budget, sinks, window }): ReadRule => ({
    score: "adapter",
    adapter: "tokenbutler",
    budget,
    sinks,
    window,
    denseLayers: 1,
    densePrefill: true,
  }),
  check({ budget, sinks, window }, { contextLength }) {
    checkWindow("tokenbutler", sinks, window, contextLength);
    checkRoom("tokenbutler", { budget }, { window, sinks }, usual, 1);
  },
  init: () => null,
  fork: () => null,
  plan: () => ({ state: null, edits: [] }),
};
