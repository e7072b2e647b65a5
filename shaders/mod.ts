/** The kernels. A new one is a .wgsl file and a line here. */
import addSource from "./add.wgsl" with { type: "text" };
import advanceSource from "./advance.wgsl" with { type: "text" };
import attentionSource from "./attention.wgsl" with { type: "text" };
import attentionMergeSource from "./attention_merge.wgsl" with { type: "text" };
import attentionReadSource from "./attention_read.wgsl" with { type: "text" };
import attentionReadSignalsSource from "./attention_read_signals.wgsl" with { type: "text" };
import attentionSignalsSource from "./attention_signals.wgsl" with { type: "text" };
import attentionSubgroupSource from "./attention_subgroup.wgsl" with { type: "text" };
import attentionTileSource from "./attention_tile.wgsl" with { type: "text" };
import chooseSlotsSource from "./choose_slots.wgsl" with { type: "text" };
import embedF16Source from "./embed_f16.wgsl" with { type: "text" };
import embedF32Source from "./embed_f32.wgsl" with { type: "text" };
import embedQ4Source from "./embed_q4.wgsl" with { type: "text" };
import embedQ8Source from "./embed_q8.wgsl" with { type: "text" };
import gatherRowsSource from "./gather_rows.wgsl" with { type: "text" };
import kvCopySource from "./kv_copy.wgsl" with { type: "text" };
import kvEncodeSource from "./kv_encode.wgsl" with { type: "text" };
import kvRecordSource from "./kv_record.wgsl" with { type: "text" };
import kvTurnSource from "./kv_turn.wgsl" with { type: "text" };
import kvWriteSource from "./kv_write.wgsl" with { type: "text" };
import linearAnySource from "./linear_any.wgsl" with { type: "text" };
import linearF16Source from "./linear_f16.wgsl" with { type: "text" };
import linearF32Source from "./linear_f32.wgsl" with { type: "text" };
import linearQ4Source from "./linear_q4.wgsl" with { type: "text" };
import linearQ8Source from "./linear_q8.wgsl" with { type: "text" };
import linearSubgroupF16Source from "./linear_subgroup_f16.wgsl" with { type: "text" };
import linearSubgroupF32Source from "./linear_subgroup_f32.wgsl" with { type: "text" };
import linearSubgroupQ4Source from "./linear_subgroup_q4.wgsl" with { type: "text" };
import linearSubgroupQ8Source from "./linear_subgroup_q8.wgsl" with { type: "text" };
import linearTileF16Source from "./linear_tile_f16.wgsl" with { type: "text" };
import linearTileF32Source from "./linear_tile_f32.wgsl" with { type: "text" };
import linearTileQ4Source from "./linear_tile_q4.wgsl" with { type: "text" };
import linearTileQ8Source from "./linear_tile_q8.wgsl" with { type: "text" };
import readScoresSource from "./read_scores.wgsl" with { type: "text" };
import recordMoveSource from "./record_move.wgsl" with { type: "text" };
import rmsNormSource from "./rms_norm.wgsl" with { type: "text" };
import rmsNormSubgroupSource from "./rms_norm_subgroup.wgsl" with { type: "text" };
import ropeSource from "./rope.wgsl" with { type: "text" };
import ropeKvWriteSource from "./rope_kv_write.wgsl" with { type: "text" };
import signalClearSource from "./signal_clear.wgsl" with { type: "text" };
import swigluSource from "./swiglu.wgsl" with { type: "text" };
import adjustLogitsSource from "./adjust_logits.wgsl" with { type: "text" };
import pageBoundsSource from "./page_bounds.wgsl" with { type: "text" };
import penaliseLogitsSource from "./penalise_logits.wgsl" with { type: "text" };
import perturbLogitsSource from "./perturb_logits.wgsl" with { type: "text" };
import rowStatsSource from "./row_stats.wgsl" with { type: "text" };
import rowStatsSubgroupSource from "./row_stats_subgroup.wgsl" with { type: "text" };
import rowStatsMergeSource from "./row_stats_merge.wgsl" with { type: "text" };
import samplingCutSource from "./sampling_cut.wgsl" with { type: "text" };
import topKSource from "./top_k.wgsl" with { type: "text" };
import drawResultSource from "./draw_result.wgsl" with { type: "text" };
import { defineKernel, type KernelSpec } from "./kernel.ts";

export {
  type BindingKind,
  type Constants,
  type FieldType,
  inHalf,
  type KernelSpec,
  mayBeHalf,
  packParams,
  specialize,
} from "./kernel.ts";

const elementwise = { bindings: "params x y z*", params: "size" };
const embed = {
  bindings: "params table step_data y*",
  params: "cols at first height start scales",
};
const part = (p: number) =>
  "rows first weight scales bias up up_scales up_bias y stride has_bias unused"
    .replace(/\w+/g, `parts[${p}].$&`);
const linear = {
  bindings: "params x weight bias residual y*",
  params: `depth tokens unused0 unused1 ${part(0)} ${part(1)} ${part(2)}`,
  overrides: { M: [8, 4, 2, 1], GATED: [0, 1], RESIDUAL: [0, 1] },
};
const linearTile = { ...linear, overrides: { GATED: [0, 1], RESIDUAL: [0, 1] } };
const linearSubgroup = linearTile;

export const add = defineKernel("add", addSource, elementwise);
export const advance = defineKernel("advance", advanceSource, {
  bindings: "params stats step_data*",
  params: "count tokens positions rows draws",
});
const attentionLine = {
  bindings: "params q keys values step_data y* stats*",
  params:
    "heads kv_heads head_dim quads page_size slots layer home token_rows rows pieces scale:f32 chosen",
  overrides: { SPLIT: [0, 1] },
};
export const attention = defineKernel("attention", attentionSource, attentionLine);
export const attentionSubgroup = defineKernel(
  "attention_subgroup",
  attentionSubgroupSource,
  attentionLine,
);
export const attentionMerge = defineKernel("attention_merge", attentionMergeSource, {
  bindings: "params mixed part_stats step_data y* stats*",
  params: "heads head_dim pieces chosen",
});
export const attentionTile = defineKernel("attention_tile", attentionTileSource, {
  bindings: "params q keys values step_data y* stats*",
  params: "heads kv_heads head_dim quads page_size slots layer home rows tiles scale:f32",
  overrides: { WIDE: [1, 2, 4] },
});
export const attentionRead = defineKernel("attention_read", attentionReadSource, {
  bindings: "params q keys values step_data lists y* stats*",
  params: "heads kv_heads head_dim quads page_size slots layer home chosen room pieces scale:f32",
  overrides: { SPLIT: [0, 1] },
});
export const attentionReadSignals = defineKernel(
  "attention_read_signals",
  attentionReadSignalsSource,
  {
    bindings: "params q keys stats step_data lists record* encoded*",
    params: "heads kv_heads head_dim quads page_size slots layer home chosen room scale:f32 signal",
  },
);
export const attentionSignals = defineKernel("attention_signals", attentionSignalsSource, {
  bindings: "params q keys stats step_data record*",
  params: "heads kv_heads head_dim quads page_size slots layer home rows chosen scale:f32 signal",
});
export const chooseSlots = defineKernel("choose_slots", chooseSlotsSource, {
  bindings: "params scores step_data lists*",
  params: "kv_heads layer ruled first space room",
});
export const drawResult = defineKernel("draw_result", drawResultSource, {
  bindings: "params x cuts flags step_data stats*",
  params: "count stride draws",
  overrides: { GREEDY: [0, 1], PLAIN: [0, 1] },
});
export const embedF16 = defineKernel("embed_f16", embedF16Source, embed);
export const embedF32 = defineKernel("embed_f32", embedF32Source, embed);
export const embedQ4 = defineKernel("embed_q4", embedQ4Source, embed);
export const embedQ8 = defineKernel("embed_q8", embedQ8Source, embed);
export const gatherRows = defineKernel("gather_rows", gatherRowsSource, {
  bindings: "params x step_data y*",
  params: "cols at",
});
export const kvCopy = defineKernel("kv_copy", kvCopySource, {
  bindings: "params step_data data*",
  params: "heads apart base width count at stride",
});
export const kvEncode = defineKernel("kv_encode", kvEncodeSource, {
  bindings: "params step_data data*",
  params: "heads apart count at",
  overrides: { FORM: [1, 2, 3] },
});
export const kvRecord = defineKernel("kv_record", kvRecordSource, {
  bindings: "params values step_data record*",
  params: "kv_heads width page_size slots layer home token_rows rows",
});
export const kvTurn = defineKernel("kv_turn", kvTurnSource, {
  bindings: "params step_data keys*",
  params: "heads apart padded half gap at turns",
});
export const kvWrite = defineKernel("kv_write", kvWriteSource, {
  bindings: "params k v step_data keys* values*",
  params: "kv_heads head_dim padded slots layer home token_rows rows",
});
export const linearAny = defineKernel("linear_any", linearAnySource, {
  bindings: "params x weight bias y*",
  params: "depth rows weight bias has_bias y stride",
});
export const linearF16 = defineKernel("linear_f16", linearF16Source, linear);
export const linearF32 = defineKernel("linear_f32", linearF32Source, linear);
export const linearQ4 = defineKernel("linear_q4", linearQ4Source, linear);
export const linearQ8 = defineKernel("linear_q8", linearQ8Source, linear);
export const linearSubgroupF16 = defineKernel(
  "linear_subgroup_f16",
  linearSubgroupF16Source,
  linearSubgroup,
);
export const linearSubgroupF32 = defineKernel(
  "linear_subgroup_f32",
  linearSubgroupF32Source,
  linearSubgroup,
);
export const linearSubgroupQ4 = defineKernel(
  "linear_subgroup_q4",
  linearSubgroupQ4Source,
  linearSubgroup,
);
export const linearSubgroupQ8 = defineKernel(
  "linear_subgroup_q8",
  linearSubgroupQ8Source,
  linearSubgroup,
);
export const linearTileF16 = defineKernel("linear_tile_f16", linearTileF16Source, linearTile);
export const linearTileF32 = defineKernel("linear_tile_f32", linearTileF32Source, linearTile);
export const linearTileQ4 = defineKernel("linear_tile_q4", linearTileQ4Source, linearTile);
export const linearTileQ8 = defineKernel("linear_tile_q8", linearTileQ8Source, linearTile);
export const readScores = defineKernel("read_scores", readScoresSource, {
  bindings: "params q keys encoded step_data scores*",
  params: "heads kv_heads head_dim quads page_size slots layer home ruled first space width",
  overrides: { SCORE: [0, 1, 2] },
});
export const recordMove = defineKernel("record_move", recordMoveSource, {
  bindings: "params step_data record other*",
  params: "heads apart other_apart width count at",
});
const rmsNormLine = {
  bindings: "params x weight y*",
  params: "cols eps:f32",
};
export const rmsNorm = defineKernel("rms_norm", rmsNormSource, rmsNormLine);
export const rmsNormSubgroup = defineKernel(
  "rms_norm_subgroup",
  rmsNormSubgroupSource,
  rmsNormLine,
);
export const rope = defineKernel("rope", ropeSource, {
  bindings: "params x table step_data y*",
  params: "width half apart at",
});
export const ropeKvWrite = defineKernel("rope_kv_write", ropeKvWriteSource, {
  bindings: "params q k v table step_data q_out* keys* values*",
  params: "heads kv_heads half apart padded slots layer home positions token_rows rows",
});
export const signalClear = defineKernel("signal_clear", signalClearSource, {
  bindings: "params step_data record*",
  params: "kv_heads slots layer home token_rows rows width",
});
export const swiglu = defineKernel("swiglu", swigluSource, {
  ...elementwise,
  bindings: "params gate up y*",
});
export const adjustLogits = defineKernel("adjust_logits", adjustLogitsSource, {
  bindings: "params x step_data y*",
  params: "vocab stride draws",
});
export const pageBounds = defineKernel("page_bounds", pageBoundsSource, {
  bindings: "params keys step_data bounds*",
  params: "padded page_size at",
});
export const penaliseLogits = defineKernel("penalise_logits", penaliseLogitsSource, {
  bindings: "params step_data y*",
  params: "vocab draws",
});
export const perturbLogits = defineKernel("perturb_logits", perturbLogitsSource, {
  bindings: "params x stats cuts step_data y* flags*",
  params: "vocab draws",
});
const rowStatsLine = {
  bindings: "params x step_data parts*",
  params: "vocab stride draws",
  overrides: { RAW: [0, 1], TEMPERED: [0, 1] },
};
export const rowStats = defineKernel("row_stats", rowStatsSource, rowStatsLine);
export const rowStatsSubgroup = defineKernel(
  "row_stats_subgroup",
  rowStatsSubgroupSource,
  rowStatsLine,
);
export const rowStatsMerge = defineKernel("row_stats_merge", rowStatsMergeSource, {
  bindings: "params parts step_data stats*",
  params: "count at draws",
  overrides: { TEMPERED: [0, 1] },
});
export const samplingCut = defineKernel("sampling_cut", samplingCutSource, {
  bindings: "params top stats step_data cuts* flags*",
  params: "vocab draws",
});
export const topK = defineKernel("top_k", topKSource, {
  bindings: "params x ids step_data top* top_ids*",
  params: "count stride rows",
  overrides: { PAIRS: [0, 1] },
});

/** Kernels that do the same to the bit with subgroup operations, for devices that have them. */
export const subgroupTwins: ReadonlyMap<KernelSpec, KernelSpec> = new Map([
  [attention, attentionSubgroup],
  [rmsNorm, rmsNormSubgroup],
  [rowStats, rowStatsSubgroup],
]);
