/**
 * NAtS router: each token's lifetime per KV head, as three logits (global, local, window).
 *
 * Source: Neural Attention Search, https://arxiv.org/abs/2502.13251: logits = R x with x the input of
 * the attention block, R [kvHeads * 3, hidden] without bias, rows head * 3 + type. Trained by
 * models/recipe/adapters/nats.py.
 */
import type { KvAdapter } from "../adapter.ts";
import type { AdapterLoader } from "./adapter_file.ts";

/** The record of a slot is its three logits. */
export function natsRouter(load: AdapterLoader): KvAdapter {
  const { layers, kvHeads, hidden } = load.config;
  const routers = Array.from(
    { length: layers },
    (_, i) => load.tensor(`nats.layers.${i}.router.weight`, [kvHeads * 3, hidden]),
  );
  return {
    name: "nats",
    recordWidth: 3,
    record: (ops, layer, { hidden }) => ops.linear(hidden, routers[layer]!),
    [Symbol.dispose]: () => load.dispose(),
  };
}
