/**
 * TokenButler predictor: which cached tokens the next query will read.
 *
 * Source: second generation of TokenButler, https://arxiv.org/abs/2503.07518 and its later repository.
 * A producer network reads the attention input of layer p and gives the projected queries of layer
 * p + 1; keys are the cached ones through a projection per KV head. We differ in RMSNorm for
 * LayerNorm, silu(gate) * up for SiLU, and one served layer per producer. Trained by
 * models/recipe/adapters/token_butler.py.
 */
import type { Ops, Tensor } from "../../backend/backend.ts";
import type { KvAdapter } from "../adapter.ts";
import type { AdapterLoader } from "./adapter_file.ts";

const eps = 1e-5;

/** The record of a slot is its projected key, [dim]; layer 0 has none and reads everything. */
export function tokenButler(load: AdapterLoader): KvAdapter {
  const { layers, heads } = load.config;
  const dim = load.integer("dim");
  const producers = Array.from({ length: layers - 1 }, (_, p) => producer(load, p, heads * dim));
  const projections = Array.from({ length: layers - 1 }, (_, p) => projection(load, p + 1, dim));
  return {
    name: "tokenbutler",
    recordWidth: dim,
    record: (ops, layer, { k }) => layer === 0 ? undefined : ops.linear(k, projections[layer - 1]!),
    queries(ops, layer, { hidden, memory }) {
      const produce = producers[layer];
      if (produce !== undefined) memory.set(`queries ${layer + 1}`, produce(ops, hidden));
      return memory.get(`queries ${layer}`);
    },
    [Symbol.dispose]: () => load.dispose(),
  };
}

function producer(load: AdapterLoader, p: number, outputs: number) {
  const { hidden } = load.config;
  const width = load.integer("width");
  const weight = (name: string, shape: readonly number[]) =>
    load.tensor(`token_butler.producers.${p}.${name}.weight`, shape);
  const norm = weight("norm", [hidden]);
  const gate = weight("gate", [width, hidden]), up = weight("up", [width, hidden]);
  const down = weight("down", [outputs, width]);
  return (ops: Ops, x: Tensor): Tensor => {
    const z = ops.rmsNorm(x, norm, eps);
    return ops.linear(ops.swiglu(ops.linear(z, gate), ops.linear(z, up)), down);
  };
}

/** One matrix for all KV heads, each head's projection on its diagonal block. */
function projection(load: AdapterLoader, layer: number, dim: number): Tensor {
  const { kvHeads, headDim } = load.config;
  const name = `token_butler.layers.${layer}.key_proj`;
  const values = load.values(name, [kvHeads, dim, headDim]);
  const columns = kvHeads * headDim;
  const matrix = new Float32Array(kvHeads * dim * columns);
  for (let row = 0; row < kvHeads * dim; row++) {
    const head = Math.floor(row / dim);
    matrix.set(values.subarray(row * headDim, (row + 1) * headDim), row * columns + head * headDim);
  }
  return load.tensor(name, [kvHeads * dim, columns], matrix);
}
