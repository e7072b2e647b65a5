/** int8 and int4: the whole cache in fewer bits. */
import * as z from "zod";
import type { KvFormat, KvPolicy } from "../policy.ts";
import { editsOf, settledCount } from "./_params.ts";

const residual = z.int().min(0).max(4096).default(16).describe("Newest tokens that stay in f32.");
const int8Params = z.strictObject({ residual });
const int4Params = z.strictObject({
  residual: residual.describe(
    "Newest tokens that stay in f32; with keys=channel up to 31 more, until 32 are complete.",
  ),
  keys: z.enum(["channel", "token"]).default("channel").describe(
    "What a scale of the keys is for. channel = a channel of 32 tokens, as KIVI does; keys have a few " +
      "channels of large numbers. token = 32 channels of a token, as for values.",
  ),
});

/**
 * Tokens are stored in few bits once they are older than `residual` tokens, 16 at a time, or as many as
 * the format stores together. See formats.ts for how.
 */
function quantised<P extends { readonly residual: number }>(
  name: string,
  summary: string,
  params: z.ZodType<P>,
  format: (params: P) => KvFormat,
): KvPolicy<P, P> {
  return {
    name,
    source: "https://arxiv.org/abs/2402.02750",
    summary,
    family: "quantisation",
    lossless: false,
    granularity: "sequence",
    signals: [],
    params,
    format,
    init: (_layout, params) => params,
    fork: (state) => state,
    plan(state, view) {
      const group = view.groups[0]!;
      const old = Math.max(0, settledCount(group, view) - state.residual);
      return { state, edits: editsOf(0, group, old, undefined, format(state)) };
    },
  };
}

export const int8 = quantised(
  "int8",
  "Older tokens in 8 bits per number, about 28 % of the bytes",
  int8Params,
  () => "int8",
);

export const int4 = quantised(
  "int4",
  "Older tokens in 4 bits per number, about 17 % of the bytes",
  int4Params,
  ({ keys }) => keys === "channel" ? "kivi4" : "int4",
);
