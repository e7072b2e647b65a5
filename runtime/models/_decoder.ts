/** What all decoders of this folder have in common, so that each file states what differs. */
import type { Ops, Tensor } from "../backend/backend.ts";
import type { AdapterInput, KvAdapter } from "./adapter.ts";
import type { DecoderOutput, DecoderStep } from "./decoder.ts";
import type { Loader } from "./loader.ts";
import type { WeightRole } from "./weight_names.ts";
import type { ModelConfig } from "./config.ts";

/** A linear layer; `bias` is undefined where there is none. */
export interface Linear {
  readonly weight: Tensor;
  readonly bias: Tensor | undefined;
}

/** Weights before the first and after the last layer. */
export interface Ends {
  readonly embedding: Tensor;
  readonly finalNorm: Tensor;
  /** [vocab, hidden]; the embedding itself where it is tied. */
  readonly output: Tensor;
}

/** Gated feed-forward part of a layer. */
export interface Ffn {
  readonly gate: Linear;
  readonly up: Linear;
  readonly down: Linear;
}

/** Embedding, final norm and output layer. */
export function loadEnds(load: Loader): Ends {
  const { vocab, hidden, tieEmbeddings } = load.config;
  const embedding = load.tensor("embedding", [vocab, hidden]);
  return {
    embedding,
    finalNorm: load.tensor("finalNorm", [hidden]),
    output: tieEmbeddings ? embedding : load.tensor("output", [vocab, hidden]),
  };
}

/** One linear layer of layer `layer`, with a bias if `bias` names one. */
export function loadLinear(
  load: Loader,
  layer: number,
  weight: WeightRole,
  shape: readonly [outputs: number, inputs: number],
  bias?: WeightRole | false,
): Linear {
  return {
    weight: load.tensor(weight, shape, layer),
    bias: bias ? load.tensor(bias, [shape[0]], layer) : undefined,
  };
}

/** q, k, v and o of one layer. */
export function loadAttention(load: Loader, layer: number): Record<"q" | "k" | "v" | "o", Linear> {
  const { hidden, heads, kvHeads, headDim, bias } = load.config;
  return {
    q: loadLinear(load, layer, "q", [heads * headDim, hidden], bias.qkv && "qBias"),
    k: loadLinear(load, layer, "k", [kvHeads * headDim, hidden], bias.qkv && "kBias"),
    v: loadLinear(load, layer, "v", [kvHeads * headDim, hidden], bias.qkv && "vBias"),
    o: loadLinear(load, layer, "o", [hidden, heads * headDim], bias.output && "oBias"),
  };
}

/** Gate, up and down of one layer. */
export function loadFfn(load: Loader, layer: number): Ffn {
  const { hidden, ffn, bias } = load.config;
  return {
    gate: loadLinear(load, layer, "gate", [ffn, hidden], bias.ffn && "gateBias"),
    up: loadLinear(load, layer, "up", [ffn, hidden], bias.ffn && "upBias"),
    down: loadLinear(load, layer, "down", [hidden, ffn], bias.ffn && "downBias"),
  };
}

/** x through a linear layer. */
export function project(ops: Ops, x: Tensor, { weight, bias }: Linear): Tensor {
  return bias === undefined ? ops.linear(x, weight) : ops.linear(x, weight, bias);
}

/** down(silu(gate x) * up x) */
export function feedForward(ops: Ops, x: Tensor, { gate, up, down }: Ffn): Tensor {
  return project(ops, ops.swiglu(project(ops, x, gate), project(ops, x, up)), down);
}

/** Stores k and v, then attends with q. */
export function attend(
  ops: Ops,
  step: DecoderStep,
  config: ModelConfig,
  layer: number,
  input: Omit<AdapterInput, "memory">,
): Tensor {
  const { q, k, v } = input;
  ops.kvWrite(step.pool, layer, k, v, step.rows, step.slots);
  const options = { scale: 1 / Math.sqrt(config.headDim), signals: step.signals };
  if (step.adapters.length === 0) {
    return ops.attention(q, step.pool, layer, step.rows, options);
  }
  const queries = runAdapters(ops, step, layer, input);
  return ops.attention(q, step.pool, layer, step.rows, { ...options, queries });
}

/** What adapters keep from layer to layer, by step. */
const memories = new WeakMap<DecoderStep, Map<KvAdapter, Map<string, Tensor>>>();

/** Stores the adapters' records and returns their queries. */
function runAdapters(
  ops: Ops,
  step: DecoderStep,
  layer: number,
  input: Omit<AdapterInput, "memory">,
): ReadonlyMap<string, Tensor> {
  let byAdapter = memories.get(step);
  if (byAdapter === undefined) memories.set(step, byAdapter = new Map());
  const queries = new Map<string, Tensor>();
  for (const { adapter, rows } of step.adapters) {
    let memory = byAdapter.get(adapter);
    if (memory === undefined) byAdapter.set(adapter, memory = new Map());
    const record = adapter.record?.(ops, layer, { ...input, memory });
    if (record !== undefined) {
      const own = rows.map((r) => step.rows[r]!), slots = rows.map((r) => step.slots[r]!);
      ops.kvRecord!(step.pool, layer, `adapter:${adapter.name}`, record, own, slots);
    }
    const theirs = adapter.queries?.(ops, layer, { ...input, memory });
    if (theirs !== undefined) queries.set(adapter.name, theirs);
  }
  return queries;
}

/**
 * Runs one layer on x, which is freed with the layer's intermediate results, so that a step of many
 * tokens needs the memory of one layer and not of all of them.
 */
export function runLayer(
  ops: Ops,
  step: DecoderStep,
  x: Tensor,
  layer: (x: Tensor) => Tensor,
): Tensor {
  if (ops.scoped === undefined) return layer(x);
  using _input = x;
  return ops.scoped(() => ({ output: layer(x), kept: memories.get(step) })).output;
}

/** Picks out the hidden states that a step wants, and turns the last ones into logits. */
export function createOutput(ops: Ops, step: DecoderStep): {
  /** To be told of the state before each layer. */
  before(layer: number, x: Tensor): void;
  finish(x: Tensor, ends: Ends, config: ModelConfig): DecoderOutput;
} {
  const hidden = new Map<number, Tensor>();
  const before = (layer: number, x: Tensor): void => {
    const wanted = step.hiddenTokens.get(layer);
    if (wanted !== undefined) hidden.set(layer, ops.gatherRows(x, wanted));
  };
  return {
    before,
    finish(x, ends, config) {
      before(config.layers, x);
      if (step.logitTokens.length === 0) return { logits: undefined, hidden };
      const last = ops.gatherRows(x, step.logitTokens);
      const normed = ops.rmsNorm(last, ends.finalNorm, config.normEps);
      return { logits: ops.linear(normed, ends.output), hidden };
    },
  };
}
