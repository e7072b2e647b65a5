/** streaming: the first tokens and the newest ones. */
import * as z from "zod";
import { PolicyError } from "../../errors.ts";
import type { KvPolicy } from "../policy.ts";
import { editsOf, formatParam, intervalParam, settledCount, sinksParam } from "./_params.ts";

const params = z.strictObject({
  sinks: sinksParam,
  window: z.int().min(1).default(256).describe("Newest tokens kept, the current one included."),
  positions: z.enum(["original", "cache"]).default("original").describe(
    "cache = a token's place is its slot, so that a stream may be longer than the context.",
  ),
  interval: intervalParam,
  format: formatParam,
});
type Params = z.infer<typeof params>;

/**
 * StreamingLLM. Source: Xiao et al. 2023, https://arxiv.org/abs/2309.17453, section 3.2. The prompt is
 * computed in pieces of `interval` tokens with eviction in between, so that it is never in memory as a
 * whole; a token may see up to `interval - 1` tokens more than the window.
 */
export const streaming: KvPolicy<Params, Params> = {
  name: "streaming",
  source: "https://arxiv.org/abs/2309.17453",
  summary: "The first tokens and a window of the newest ones",
  family: "eviction",
  lossless: false,
  granularity: "sequence",
  signals: [],
  params,
  format: ({ format }) => format,
  positions: ({ positions }) => positions,
  schedule: ({ interval }) => ({ prompt: interval, decode: interval }),
  check({ sinks, window, positions, interval, format }, { contextLength }) {
    if (sinks + window + interval > contextLength) {
      throw new PolicyError(
        "streaming",
        `window ${window}, ${sinks} sinks and an interval of ${interval} exceed the context of ` +
          `${contextLength} tokens`,
        "window",
      );
    }
    if (positions === "cache" && format !== "f32") {
      throw new PolicyError("streaming", "keys stored in few bits cannot turn", "format");
    }
  },
  init: (_layout, params) => params,
  fork: (state) => state,
  plan(state, view) {
    const group = view.groups[0]!, settled = settledCount(group, view);
    const kept: number[] = [];
    for (let slot = 0; slot < settled; slot++) {
      const position = group.positions[slot]!;
      // The next token is one of the window's.
      if (position < state.sinks || position > view.committed - state.window) kept.push(slot);
    }
    return { state, edits: editsOf(0, group, settled, kept, state.format) };
  },
};
