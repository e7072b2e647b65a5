/**
 * score-heads: keeps tokens by a learned score per KV head from the token's hidden state, as published
 * KVzap heads give it (an estimate of the log of the attention the token will get).
 *
 * Source: KVzap, https://arxiv.org/abs/2601.07891, linear or of two layers: a token whose score is below `threshold` is dropped
 * once it has left the newest `window` tokens. Its scores are made for thresholds about -4 and a window
 * of 128.
 */
import * as z from "zod";
import { checkWindow } from "./_params.ts";
import type { KvEdit, KvPolicy } from "../policy.ts";

const params = z.strictObject({
  threshold: z.number().default(-4).describe("Tokens with a lower score are dropped"),
  sinks: z.int().min(0).default(1).describe("First tokens, always kept"),
  window: z.int().min(1).default(128).describe("Newest tokens, always kept"),
});

export type ScoreHeadsParams = z.output<typeof params>;

/** See file comment. */
export const scoreHeads: KvPolicy<ScoreHeadsParams, ScoreHeadsParams> = {
  name: "score-heads",
  source: "https://arxiv.org/abs/2601.07891",
  summary: "Drops tokens below a learned score, outside of a recent window",
  family: "eviction",
  lossless: false,
  granularity: "kv-head",
  signals: ["adapter:score-heads"],
  adapter: "score-heads",
  params,
  check: ({ sinks, window }, { contextLength }) =>
    checkWindow("score-heads", sinks, window, contextLength),
  init: (_, params) => params,
  fork: (state) => state,
  plan: (state, { committed, groups }) => ({
    state,
    edits: groups.flatMap((group, index): KvEdit[] => {
      const scores = group.signal("adapter:score-heads");
      const kept: number[] = [];
      group.positions.forEach((position, slot) => {
        const isRecent = position >= committed - state.window;
        if (isRecent || position < state.sinks || scores[slot]! >= state.threshold) kept.push(slot);
      });
      if (kept.length === group.positions.length) return [];
      return [{ op: "keep", group: index, slots: Uint32Array.from(kept) }];
    }),
  }),
};
