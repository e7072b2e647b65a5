/** sepllm: the first tokens, separators and the newest tokens. */
import * as z from "zod";
import { PolicyError } from "../../errors.ts";
import type { KvModel, KvPolicy, KvView } from "../policy.ts";
import { checkRoom, checkWindow, editsOf, formatParam, refuseUnused } from "./_params.ts";
import { settledCount, sinksParam, withWholeGroups } from "./_params.ts";

/** Defaults of a stream. */
const usual = { window: 256, sinks: 4, separators: 64, interval: 1 };

const params = z.strictObject({
  mode: z.enum(["within_context", "stream"]).default("within_context").describe(
    "within_context = all separators stay, places as in the text. stream = bounded memory, a token's " +
      "place is its slot.",
  ),
  sinks: sinksParam,
  window: z.int().min(1).default(usual.window).describe(
    "Newest tokens kept, the current one included.",
  ),
  separators: z.int().min(0).optional().describe(
    "stream alone: most separators kept, the newest ones; 64 if not given.",
  ),
  capacity: z.int().min(2).optional().describe(
    "stream alone: most tokens in the cache; what is not kept goes when it would be exceeded. 800 if " +
      "not given.",
  ),
  prefill: z.enum(["masked", "dense"]).default("masked").describe(
    "masked = the prompt's tokens see only what is kept. dense = they see everything before them; " +
      "eviction begins at the prompt's end.",
  ),
  interval: z.int().min(1).max(512).optional().describe(
    "Tokens between two times of freeing memory. within_context: 16 if not given; up to one less than " +
      "that are in memory and not seen. stream: 1 if not given, so that what is not kept goes only when " +
      "the capacity would be exceeded; above, at the last multiple before that.",
  ),
  format: formatParam,
}).superRefine(({ mode, separators, capacity }, context) => {
  if (mode !== "stream") refuseUnused(context, { separators, capacity }, "mode=stream");
}).transform(({ mode, separators, capacity, interval, ...rest }) =>
  mode === "stream"
    ? {
      mode,
      ...rest,
      separators: separators ?? usual.separators,
      capacity: capacity ?? 800,
      interval: interval ?? usual.interval,
    }
    : { mode, ...rest, interval: interval ?? 16 }
);
type Params = z.output<typeof params>;

interface State {
  readonly params: Params;
  readonly separators: ReadonlySet<number>;
  /** stream: the length at which the capacity is reached. */
  readonly fullAt: number;
}

/**
 * SepLLM without training. Source: Chen et al. 2024, https://arxiv.org/abs/2412.12094, sections 3.1 and
 * 3.2 (fundamental and streaming design). Within the context every token sees exactly what the rule says,
 * prompt and drafts included, and memory is freed every `interval` tokens. A stream drops what it does
 * not keep when the next token would exceed its capacity; tokens that may still be taken back come on
 * top. Differs: which tokens are separators comes from the tokenizer (separators.ts), and keys turn
 * when they move (`stream`), instead of being turned at every read.
 */
export const sepllm: KvPolicy<State, Params> = {
  name: "sepllm",
  source: "https://arxiv.org/abs/2412.12094",
  summary: "The first tokens, punctuation and a window of the newest tokens",
  family: "eviction",
  lossless: false,
  granularity: "sequence",
  signals: [],
  params,
  format: ({ format }) => format,
  positions: ({ mode }) => mode === "stream" ? "cache" : "original",
  densePrompt: ({ prefill }) => prefill === "dense",
  lifetime({ params, separators }, position, token, promptLength) {
    const { mode, sinks, window, prefill } = params;
    if (mode === "stream" || position < sinks || separators.has(token)) return Infinity;
    return Math.max(position + window, prefill === "dense" ? promptLength : 0);
  },
  next({ params, fullAt }, settled, promptLength) {
    const every = params.interval;
    if (params.prefill === "dense" && settled < promptLength) return promptLength;
    const after = (Math.floor(settled / every) + 1) * every;
    return params.mode === "stream" ? Math.max(after, Math.floor(fullAt / every) * every) : after;
  },
  check: checkParams,
  init: (_layout, params, model) => ({
    params,
    separators: model?.separators ?? new Set(),
    fullAt: params.mode === "stream" ? params.capacity : Infinity,
  }),
  fork: (state) => state,
  plan(state, view) {
    const group = view.groups[0]!, settled = settledCount(group, view);
    const { params } = state, { format } = params;
    if (params.mode === "stream") {
      if (settled + params.interval <= params.capacity) return { state, edits: [] };
      const { slots } = survivors(state, view, settled);
      const fullAt = view.committed + params.capacity - slots.length;
      return { state: { ...state, fullAt }, edits: editsOf(0, group, settled, slots, format) };
    }
    const { slots, forGood } = survivors(state, view, settled);
    const whole = withWholeGroups(slots, group, format);
    return { state, edits: editsOf(0, group, settled, whole, format, forGood) };
  },
};

/**
 * Slots of sinks, separators (in a stream the newest ones) and the window; and how many of them come
 * before the window, which within the context stay for good.
 */
function survivors({ params, separators }: State, view: KvView, settled: number) {
  const { positions } = view.groups[0]!, { tokens } = view;
  const sinks: number[] = [], marks: number[] = [], recent: number[] = [];
  for (let slot = 0; slot < settled; slot++) {
    const position = positions[slot]!;
    if (position < params.sinks) sinks.push(slot);
    else if (position > view.committed - params.window) recent.push(slot); // with the next token
    else if (separators.has(tokens[position]!)) marks.push(slot);
  }
  const most = params.mode === "stream" ? params.separators : marks.length;
  const forGood = [...sinks, ...marks.slice(marks.length - Math.min(most, marks.length))];
  return { slots: [...forGood, ...recent], forGood: forGood.length };
}

function checkParams(params: Params, { contextLength, separators }: KvModel): void {
  const { sinks, window, interval, format } = params;
  const fail = (detail: string, param: string) => {
    throw new PolicyError("sepllm", detail, param);
  };
  if (separators === undefined || separators.size === 0) {
    fail("the model's tokenizer has no separators", "mode");
  }
  checkWindow("sepllm", sinks, window, contextLength, { interval });
  if (params.mode !== "stream") return;
  const { capacity, separators: most } = params;
  checkRoom("sepllm", { capacity }, { window, sinks, separators: most, interval }, usual);
  if (capacity > contextLength) {
    fail(`capacity ${capacity} exceeds the context of ${contextLength} tokens`, "capacity");
  }
  if (format !== "f32") fail("keys stored in few bits cannot turn", "format");
}
