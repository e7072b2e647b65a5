/**
 * Score heads: from the hidden state of each layer a score per KV head, in the layout of NVIDIA's KVzap
 * checkpoints, so that published heads for Llama and Qwen can be used as they are:
 *
 *   linear  layers.{i}.weight [kvHeads, hidden], layers.{i}.bias
 *   mlp     layers.{i}.0.weight [width, hidden], layers.{i}.0.bias, GELU,
 *           layers.{i}.2.weight [kvHeads, width], layers.{i}.2.bias
 *
 * Files of earlier versions say `module_list` instead of `layers`.
 *
 * Source: KVzap, https://arxiv.org/abs/2601.07891 and kvpress.
 */
import { FormatError } from "../../errors.ts";
import type { Ops, Tensor } from "../../backend/backend.ts";
import type { KvAdapter } from "../adapter.ts";
import type { AdapterLoader } from "./adapter_file.ts";

type Head = (ops: Ops, hidden: Tensor) => Tensor;

const source = "KV adapter";
const prefixes = ["layers", "module_list"] as const;

/** Whether a file without metadata holds score heads. */
export function holdsScoreHeads(file: Pick<AdapterLoader, "has">): boolean {
  return prefixes.some((prefix) => formOf(file, prefix) !== undefined);
}

/**
 * The record of a slot is its score.
 *
 * @throws {FormatError} if the file has another layout or other layers, or the backend has no GELU
 */
export function scoreHeads(load: AdapterLoader): KvAdapter {
  const { layers } = load.config;
  const prefix = prefixes.find((name) => formOf(load, name) !== undefined);
  const form = prefix && formOf(load, prefix);
  if (prefix === undefined || form === undefined) {
    throw new FormatError(
      'score heads should have "layers.0.weight" (linear) or "layers.0.0.weight" (mlp)',
      { source },
    );
  }
  if (form === "mlp" && !load.hasGelu) {
    throw new FormatError("score heads of two layers need GELU, which the backend does not have", {
      source,
    });
  }
  const heads: Head[] = [];
  const known = new Set<string>();
  for (let layer = 0; layer < layers; layer++) {
    const part = (name: string) => {
      const full = `${prefix}.${layer}.${name}`;
      known.add(full);
      return full;
    };
    heads.push(form === "mlp" ? mlp(load, part) : linear(load, part));
  }
  const other = [...load.names()].find((name) => !known.has(name));
  if (other !== undefined) {
    throw new FormatError(
      `tensor ${JSON.stringify(other)} belongs to no ${form} head of the model's ${layers} layers`,
      { source },
    );
  }
  return {
    name: "score-heads",
    recordWidth: 1,
    record: (ops, layer, { hidden }) => heads[layer]!(ops, hidden),
    [Symbol.dispose]: () => load.dispose(),
  };
}

function formOf(
  file: Pick<AdapterLoader, "has">,
  prefix: string,
): "linear" | "mlp" | undefined {
  if (file.has(`${prefix}.0.weight`)) return "linear";
  return file.has(`${prefix}.0.0.weight`) ? "mlp" : undefined;
}

function linear(load: AdapterLoader, part: (name: string) => string): Head {
  const { kvHeads, hidden } = load.config;
  const weight = load.tensor(part("weight"), [kvHeads, hidden]);
  const bias = load.tensor(part("bias"), [kvHeads]);
  return (ops, x) => ops.linear(x, weight, bias);
}

function mlp(load: AdapterLoader, part: (name: string) => string): Head {
  const { kvHeads, hidden } = load.config;
  const [width = 0] = load.shape(part("0.weight"));
  const inner = load.tensor(part("0.weight"), [width, hidden]);
  const innerBias = load.tensor(part("0.bias"), [width]);
  const outer = load.tensor(part("2.weight"), [kvHeads, width]);
  const outerBias = load.tensor(part("2.bias"), [kvHeads]);
  return (ops, x) => ops.linear(ops.gelu!(ops.linear(x, inner, innerBias)), outer, outerBias);
}
