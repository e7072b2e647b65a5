/**
 * attention-predictor: the next decode step reads only the blocks that a forecast of its attention row
 * ranks highest. It saves reads, not memory, and the forecast itself costs: with the network more than
 * the attention it saves, unless K and V are far away.
 *
 * Source: https://arxiv.org/abs/2502.04077, algorithm of its section 4. Where we differ: one choice per
 * KV head (the mean row of its query heads); every `calibrate_every`-th step attends to everything and
 * its output is the full one; the history starts with the mean of the prompt's last `history` rows,
 * as often as there are rows, and its last row, not with those rows themselves; and the forecast may
 * be the mean of the rows or the last row, its natural rivals, which need no training.
 */
import * as z from "zod";
import { PolicyError } from "../../errors.ts";
import type { KvEdit, KvGroup, KvModel, KvPolicy } from "../policy.ts";
import { checkRoom, checkWindow, refuseUnused } from "./_params.ts";
import { type Forecast, lastRow, meanRows, network } from "./_forecast.ts";

const adapter = "attention-predictor";

const usual = { window: 8, sinks: 4, block: 4 };

const params = z.strictObject({
  budget: z.int().min(1).default(64).describe(
    "Tokens read per KV head and step; at least sinks, window and block",
  ),
  sinks: z.int().min(0).default(usual.sinks).describe("First tokens, always read"),
  window: z.int().min(1).default(usual.window).describe("Newest tokens, always read"),
  block: z.int().min(1).max(64).default(usual.block).describe("Tokens per block of the forecast"),
  history: z.int().min(1).max(128).optional().describe(
    "Rows the forecast sees, 16 if not given; last-row sees one",
  ),
  calibrate_every: z.int().min(1).default(5)
    .describe("Every so many steps everything is read, so that errors do not feed themselves"),
  dense_layers: z.int().min(0).default(1).describe("So many first layers read everything"),
  forecast: z.enum(["mean-rows", "last-row", "network"]).default("mean-rows")
    .describe("network needs a trained adapter of the model"),
}).superRefine(({ forecast, history }, context) => {
  if (forecast !== "last-row") return;
  refuseUnused(context, { history }, "forecast=mean-rows or network");
}).transform(({ history, ...rest }) =>
  rest.forecast === "last-row" ? rest : { ...rest, history: history ?? 16 }
);

export type AttentionPredictorParams = z.output<typeof params>;

/** One group's rows, oldest first, and the positions its next row reads (undefined: all). */
interface History {
  readonly rows: readonly Float32Array[];
  readonly read: Uint32Array | undefined;
}

/** Of layers that read everything. */
const dense: History = { rows: [], read: undefined };

interface State {
  readonly params: AttentionPredictorParams;
  readonly forecast: Forecast;
  /** Query heads per KV head. */
  readonly heads: number;
  readonly steps: number;
  readonly groups: readonly History[];
}

/** See file comment. */
export const attentionPredictor: KvPolicy<State, AttentionPredictorParams> = {
  name: "attention-predictor",
  source: "https://arxiv.org/abs/2502.04077",
  summary:
    "Reads the blocks that a forecast of the next attention row ranks highest; saves reads, not bytes",
  family: "read-sparsity",
  lossless: false,
  granularity: "kv-head",
  signals: ["attention-last", "attention-sum"],
  params,
  schedule: (params, __, promptLength) => ({
    prompt: Infinity,
    decode: 1,
    recordFrom: Math.max(0, promptLength - rowsOf(params)),
  }),
  check(params, model) {
    const { budget, sinks, window, block } = params;
    checkWindow(adapter, sinks, window, model.contextLength);
    checkRoom(adapter, { budget }, { window, sinks, block }, usual);
    forecastOf(params, model);
  },
  init: (layout, params, model) => ({
    params,
    forecast: forecastOf(params, model),
    heads: (model?.heads ?? layout.kvHeads) / layout.kvHeads,
    steps: 0,
    groups: [],
  }),
  fork: (state) => state,
  plan(state, { groups, promptLength }) {
    const steps = state.steps + 1;
    const isTrue = steps % state.params.calibrate_every === 0;
    const isFirst = state.groups.length === 0;
    const next = groups.map((group, i) =>
      group.layers[0] < state.params.dense_layers ? dense : nextHistory(
        state,
        group,
        isFirst ? promptHistory(state, group, promptLength) : state.groups[i],
        isTrue,
      )
    );
    const edits = next.map(({ read }, group): KvEdit => ({ op: "read", group, slots: read }));
    return { state: { ...state, steps, groups: next }, edits };
  },
};

/** How many rows the forecast sees. */
function rowsOf(params: AttentionPredictorParams): number {
  return "history" in params ? params.history : 1;
}

function forecastOf(params: AttentionPredictorParams, model: KvModel | undefined): Forecast {
  const { forecast, block } = params, history = rowsOf(params);
  if (forecast === "mean-rows") return meanRows;
  if (forecast === "last-row") return lastRow;
  const data = model?.adapters?.[adapter];
  if (data === undefined) {
    throw new PolicyError(adapter, `the model has no adapter "${adapter}"`, "forecast");
  }
  const trained = { history: data.metadata["history"], block: data.metadata["block"] };
  if (trained.history !== `${history}` || trained.block !== `${block}`) {
    throw new PolicyError(
      adapter,
      `the network was trained with history ${trained.history} and block ${trained.block}`,
      "forecast",
    );
  }
  return network(data.tensors, history);
}

/** All rows but the last of a prompt's end, each as their mean; undefined without any. */
function promptHistory(
  { params, heads }: State,
  group: KvGroup,
  promptLength: number,
): History | undefined {
  const count = Math.min(rowsOf(params), promptLength);
  if (count < 2) return undefined;
  const mean = group.signal("attention-sum").map((sum) => sum / count);
  const row = blockMaxima(mean, undefined, params.block, heads);
  return { rows: Array.from({ length: count - 1 }, () => row), read: undefined };
}

/** Takes the group's newest attention row in, and chooses what the next row reads. */
function nextHistory(
  { params, forecast, heads }: State,
  group: KvGroup,
  before: History | undefined,
  isTrue: boolean,
): History {
  const { budget, sinks, window, block } = params;
  const length = group.positions.length;
  const blocks = Math.ceil(length / block);
  const row = blockMaxima(group.signal("attention-last"), before?.read, block, heads);
  const rows = [...before?.rows ?? [], row].slice(-rowsOf(params)).map((old) => widen(old, blocks));
  if (isTrue || length <= budget) return { rows, read: undefined };
  const first = Math.floor(sinks / block), end = Math.floor((length - window) / block);
  const scores = forecast(rows.map((row) => row.map((v, b) => b >= first && b < end ? v : 0)));
  const picked = Array.from({ length: Math.max(0, end - first) }, (_, i) => first + i)
    .sort((a, b) => scores[b]! - scores[a]! || b - a)
    .slice(0, Math.floor((budget - sinks - window) / block));
  const read = new Set<number>();
  for (let slot = 0; slot < sinks; slot++) read.add(slot);
  for (const b of picked) for (let i = 0; i < block; i++) read.add(b * block + i);
  // The block that the window cuts is read whole.
  for (let slot = end * block; slot < length; slot++) read.add(slot);
  return { rows, read: Uint32Array.from(read).sort() };
}

/** The largest weight of each block, mean of the query heads; blocks that were not read count 0. */
function blockMaxima(
  weights: Float32Array,
  read: Uint32Array | undefined,
  block: number,
  heads: number,
): Float32Array {
  const out = new Float32Array(Math.ceil(weights.length / block));
  const take = (slot: number) => {
    const at = Math.floor(slot / block);
    out[at] = Math.max(out[at]!, weights[slot]! / heads);
  };
  if (read === undefined) weights.forEach((_, slot) => take(slot));
  else {
    read.forEach(take);
    for (let slot = (read.at(-1) ?? -1) + 1; slot < weights.length; slot++) take(slot);
  }
  return out;
}

/** With zeros for blocks that did not exist yet. */
function widen(row: Float32Array, blocks: number): Float32Array {
  if (row.length === blocks) return row;
  const out = new Float32Array(blocks);
  out.set(row);
  return out;
}
