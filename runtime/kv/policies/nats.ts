/**
 * nats: Neural Attention Search, learned lifetimes of tokens per KV head.
 *
 * A router gives every token, for every KV head, one of three types from its hidden state: global (kept
 * for good), local (kept until the head's next global token has been processed), window (kept for W
 * more tokens). Nothing is decided from attention scores, and there is no budget: the kept share
 * follows from the types.
 *
 * Source: https://arxiv.org/abs/2502.13251, visibility rule of its section 3; one type per token
 * (chunk 1). Where we differ: types act when the policy is consulted, every `interval` tokens, and
 * until then tokens that are due stay visible, so that at most so many more are seen than by the rule;
 * prompts are attended in the same way. `global_bias` is added to the global logit; the authors use 0 for
 * fine-tuned models and 0.1 for those trained from scratch.
 */
import * as z from "zod";
import { PolicyError } from "../../errors.ts";
import type { KvEdit, KvGroup, KvModel, KvPolicy, KvView } from "../policy.ts";
import { checkWindow, intervalParam } from "./_params.ts";

const adapter = "nats";

const params = z.strictObject({
  window: z.int().min(1).max(1024).optional()
    .describe(
      "Tokens that a window token stays visible for; default: what the router was trained with",
    ),
  global_bias: z.number().min(-1000).max(1000).default(0)
    .describe("Added to the logit of the type global: more keeps more"),
  interval: intervalParam,
});

export type NatsParams = z.output<typeof params>;

interface State {
  readonly window: number;
  readonly bias: number;
}

/** See file comment. */
export const nats: KvPolicy<State, NatsParams> = {
  name: "nats",
  source: "https://arxiv.org/abs/2502.13251",
  summary: "Learned per-head lifetimes: global, local, or a sliding window",
  family: "eviction",
  lossless: false,
  granularity: "kv-head",
  signals: ["adapter:nats"],
  adapter,
  params,
  schedule: ({ interval }) => ({ prompt: interval, decode: interval }),
  check: ({ window }, model) =>
    checkWindow("nats", 0, windowOf(window, model), model.contextLength),
  complete: (params, model) => ({ ...params, window: windowOf(params.window, model) }),
  init: (_, { window, global_bias: bias }, model) => ({ window: windowOf(window, model), bias }),
  fork: (state) => state,
  plan: (state, view) => ({
    state,
    edits: view.groups.flatMap((group, index): KvEdit[] => {
      const slots = visibleSlots(group, view, state);
      return slots.length === group.positions.length ? [] : [{ op: "keep", group: index, slots }];
    }),
  }),
};

/** A router serves with the window it was trained with, unless the request wants another. */
function windowOf(wanted: number | undefined, model: KvModel | undefined): number {
  const trained = Number(model?.adapters?.[adapter]?.metadata["window"]);
  const window = wanted ?? trained;
  if (Number.isInteger(window) && window >= 1) return window;
  throw new PolicyError(
    "nats",
    "the router does not say which window it was trained with",
    "window",
  );
}

/**
 * Slots that the next token may see, by the visibility rule: all global ones, local ones with no
 * global token after them, window ones at most `window` tokens back; and all that are not committed.
 */
function visibleSlots(group: KvGroup, { committed }: KvView, { window, bias }: State): Uint32Array {
  const { positions } = group;
  const logits = group.signal("adapter:nats");
  const types = Array.from(
    positions,
    (position, slot) => position === 0 ? "global" : typeOf(logits, slot, bias),
  );
  let lastGlobal = 0;
  positions.forEach((position, slot) => {
    if (types[slot] === "global" && position < committed) lastGlobal = position;
  });
  const kept: number[] = [];
  positions.forEach((position, slot) => {
    const isKept = position >= committed || types[slot] === "global" ||
      (types[slot] === "local" ? position > lastGlobal : committed - position <= window);
    if (isKept) kept.push(slot);
  });
  return Uint32Array.from(kept);
}

/** Arg max of the slot's three logits; ties go to the type that lives longer. */
function typeOf(logits: Float32Array, slot: number, bias: number): "global" | "local" | "window" {
  const global = logits[3 * slot]! + bias;
  const local = logits[3 * slot + 1]!, windowed = logits[3 * slot + 2]!;
  if (global >= local && global >= windowed) return "global";
  return local >= windowed ? "local" : "window";
}
