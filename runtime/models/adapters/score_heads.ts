/**
 * Score heads: one linear map per layer from the hidden state to a score per KV head, in the layout of
 * NVIDIA's KVzap checkpoints (`layers.{i}.weight` [kvHeads, hidden] and `.bias`), so that published
 * heads for Llama and Qwen can be used as they are.
 *
 * Source: KVzap, https://arxiv.org/abs/2601.07891 and kvpress. Its two-layer variant
 * (`layers.{i}.0.weight`) needs a GELU, which backends do not have: refused.
 */
import { FormatError } from "../../errors.ts";
import type { KvAdapter } from "../adapter.ts";
import type { AdapterLoader } from "./adapter_file.ts";

/** The record of a slot is its score. */
export function scoreHeads(load: AdapterLoader): KvAdapter {
  const { layers, kvHeads, hidden } = load.config;
  if (load.has("layers.0.0.weight")) {
    throw new FormatError("score heads of two layers are not supported, only linear ones", {
      source: "KV adapter",
    });
  }
  const heads = Array.from({ length: layers }, (_, i) => ({
    weight: load.tensor(`layers.${i}.weight`, [kvHeads, hidden]),
    bias: load.tensor(`layers.${i}.bias`, [kvHeads]),
  }));
  return {
    name: "score-heads",
    record: (ops, layer, { hidden }) =>
      ops.linear(hidden, heads[layer]!.weight, heads[layer]!.bias),
    [Symbol.dispose]: () => load.dispose(),
  };
}
