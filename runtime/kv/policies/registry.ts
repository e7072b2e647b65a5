/** One line per policy. */
export { full } from "./full.ts";
export { streaming } from "./streaming.ts";
export { sepllm } from "./sepllm.ts";
export { h2o } from "./h2o.ts";
export { tova } from "./tova.ts";
export { snapkv } from "./snapkv.ts";
export { pyramidkv } from "./pyramidkv.ts";
export { expectedAttention } from "./expected_attention.ts";
export { keyNorm } from "./key_norm.ts";
export { keyDiff } from "./key_diff.ts";
export { quest } from "./quest.ts";
export { int4, int8 } from "./quantised.ts";
export { nats } from "./nats.ts";
export { tokenButler } from "./tokenbutler.ts";
export { attentionPredictor } from "./attention_predictor.ts";
export { scoreHeads } from "./score_heads.ts";
