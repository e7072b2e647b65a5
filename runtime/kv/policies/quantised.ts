/** int8 and int4: the whole cache in fewer bits. */
import * as z from "zod";
import type { KvPolicy } from "../policy.ts";
import { editsOf, settledCount } from "./_params.ts";

const params = z.strictObject({
  residual: z.int().min(0).max(4096).default(16).describe("Newest tokens that stay in f32."),
});
type Params = z.infer<typeof params>;

/**
 * Tokens are stored in few bits once they are older than `residual` tokens, 16 at a time. See formats.ts
 * for how, and for what differs from KIVI, https://arxiv.org/abs/2402.02750.
 */
function quantised(format: "int8" | "int4", source: string, summary: string) {
  const policy: KvPolicy<Params, Params> = {
    name: format,
    source,
    summary,
    family: "quantisation",
    lossless: false,
    granularity: "sequence",
    signals: [],
    params,
    format: () => format,
    init: (_layout, params) => params,
    fork: (state) => state,
    plan(state, view) {
      const group = view.groups[0]!;
      const old = Math.max(0, settledCount(group, view) - state.residual);
      return { state, edits: editsOf(0, group, old, undefined, format) };
    },
  };
  return policy;
}

export const int8 = quantised(
  "int8",
  "https://arxiv.org/abs/2402.02750",
  "All tokens in 8 bits per number, about 28 % of the bytes",
);

export const int4 = quantised(
  "int4",
  "https://arxiv.org/abs/2402.02750",
  "All tokens in 4 bits per number, about 16 % of the bytes",
);
