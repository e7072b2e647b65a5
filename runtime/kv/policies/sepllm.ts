/** sepllm: the first tokens, separators and the newest tokens. */
import * as z from "zod";
import { PolicyError } from "../../errors.ts";
import type { KvModel, KvPolicy, KvView } from "../policy.ts";
import { editsOf, formatParam, intervalParam, settledCount, sinksParam } from "./_params.ts";

const params = z.strictObject({
  mode: z.enum(["within_context", "stream"]).default("within_context").describe(
    "within_context = all separators stay, places as in the text. stream = bounded memory, a token's " +
      "place is its slot.",
  ),
  sinks: sinksParam,
  window: z.int().min(1).default(256).describe("Newest tokens kept, the current one included."),
  separators: z.int().min(0).default(64).describe("stream: most separators kept, the newest ones."),
  capacity: z.int().min(2).default(800).describe(
    "stream: most tokens in the cache; what is not kept goes when it would be exceeded.",
  ),
  prefill: z.enum(["masked", "dense"]).default("masked").describe(
    "masked = the prompt's tokens see only what is kept. dense = they see everything before them; " +
      "eviction begins at the prompt's end.",
  ),
  interval: intervalParam,
  format: formatParam,
});
type Params = z.infer<typeof params>;

interface State {
  readonly params: Params;
  readonly separators: ReadonlySet<number>;
}

/**
 * SepLLM without training. Source: Chen et al. 2024, https://arxiv.org/abs/2412.12094, sections 3.1 and
 * 3.2 (fundamental and streaming design). Differs: tokens are dropped every `interval` tokens, so a
 * token may see up to `interval - 1` more; 1 is the paper's rule exactly. Which tokens are separators
 * comes from the tokenizer (separators.ts). Keys turn when they move (`stream`), instead of being
 * turned at every read.
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
  schedule: ({ interval, prefill }) => ({
    prompt: prefill === "dense" ? Infinity : interval,
    decode: interval,
  }),
  check: checkParams,
  init: (_layout, params, model) => ({ params, separators: model?.separators ?? new Set() }),
  fork: (state) => state,
  plan(state, view) {
    const group = view.groups[0]!, settled = settledCount(group, view);
    const { params } = state;
    const kept = params.mode === "stream" && settled + params.interval <= params.capacity
      ? undefined
      : survivors(state, view, settled);
    return { state, edits: editsOf(0, group, settled, kept, params.format) };
  },
};

/** Slots of sinks, separators (in a stream the newest ones) and the window. */
function survivors({ params, separators }: State, view: KvView, settled: number): number[] {
  const { positions } = view.groups[0]!, { tokens } = view;
  const sinks: number[] = [], marks: number[] = [], recent: number[] = [];
  for (let slot = 0; slot < settled; slot++) {
    const position = positions[slot]!;
    if (position < params.sinks) sinks.push(slot);
    else if (position > view.committed - params.window) recent.push(slot); // with the next token
    else if (separators.has(tokens[position]!)) marks.push(slot);
  }
  const most = params.mode === "stream" ? params.separators : marks.length;
  return [...sinks, ...marks.slice(marks.length - Math.min(most, marks.length)), ...recent];
}

function checkParams(params: Params, { contextLength, separators }: KvModel): void {
  const { mode, sinks, window, capacity, interval, format } = params;
  const fail = (detail: string, param: string) => {
    throw new PolicyError("sepllm", detail, param);
  };
  if (separators === undefined || separators.size === 0) {
    fail("the model's tokenizer has no separators", "mode");
  }
  if (sinks + window + interval > contextLength) {
    fail(`window ${window} and ${sinks} sinks exceed the context of ${contextLength}`, "window");
  }
  if (mode !== "stream") return;
  if (sinks + params.separators + window + interval > capacity) {
    fail(`capacity ${capacity} does not hold sinks, separators, window and interval`, "capacity");
  }
  if (capacity > contextLength) {
    fail(`capacity ${capacity} exceeds the context of ${contextLength} tokens`, "capacity");
  }
  if (format !== "f32") fail("keys stored in few bits cannot turn", "format");
}
