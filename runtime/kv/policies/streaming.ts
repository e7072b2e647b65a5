/** streaming: the first tokens and the newest ones. */
import * as z from "zod";
import { PolicyError } from "../../errors.ts";
import type { KvPolicy } from "../policy.ts";
import { checkWindow, editsOf, formatParam, freeingParam } from "./_params.ts";
import { settledCount, sinksParam, withWholeGroups } from "./_params.ts";

const params = z.strictObject({
  sinks: sinksParam,
  window: z.int().min(1).default(256).describe("Newest tokens seen, the current one included."),
  positions: z.enum(["original", "cache"]).default("original").describe(
    "cache = a token's place is its slot, so that a stream may be longer than the context.",
  ),
  interval: freeingParam,
  format: formatParam,
}).transform(({ interval, ...rest }) => ({
  ...rest,
  interval: interval ?? (rest.positions === "cache" ? 1 : 16),
}));
type Params = z.output<typeof params>;

/**
 * StreamingLLM. Source: Xiao et al. 2023, https://arxiv.org/abs/2309.17453, section 3.2. Every token sees the
 * sinks and exactly the window, prompt and drafts included. Memory is freed every `interval` tokens,
 * and the prompt computed in pieces of that, so that it is never in memory as a whole. With
 * `positions: "cache"` and an interval above 1 the sinks are up to `interval - 1` places further away
 * than in the paper.
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
  lifetime: ({ sinks, window }, position) => position < sinks ? Infinity : position + window,
  next(params, settled) {
    const { sinks, window, format, interval: every } = params;
    // Before that there is nothing to drop.
    const from = format === "f32" ? Math.max(settled, sinks + window - 1) : settled;
    return (Math.floor(from / every) + 1) * every;
  },
  check({ sinks, window, positions, interval, format }, { contextLength }) {
    checkWindow("streaming", sinks, window, contextLength, { interval });
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
    const whole = withWholeGroups(kept, group, state.format);
    return { state, edits: editsOf(0, group, settled, whole, state.format) };
  },
};
