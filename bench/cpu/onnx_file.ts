/**
 * Writes a decoder with the weights of a GGUF file as an ONNX graph, made of the operators that public
 * ONNX exports of such models have: GroupQueryAttention with rotation inside, MatMulNBits over blocks
 * of 32, SimplifiedLayerNormalization with and without a sum. Integers and scales are the file's own.
 *
 * Operators: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md; the format:
 * https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
 */
import { f16Values } from "../../runtime/formats/floats.ts";
import type { WeightSource } from "../../runtime/formats/weights.ts";
import type { ModelConfig } from "../../runtime/models/mod.ts";
import { ropeFrequencies } from "../../runtime/models/rope.ts";
import { FLOAT, Graph, INT32, INT64, UINT8 } from "./_onnx_graph.ts";
import { Message } from "./_protobuf.ts";

/** Domain of onnxruntime's own operators. */
const CONTRIB = "com.microsoft";
/** Weights that share a scale. */
const BLOCK = 32;

/**
 * @param path gets the whole model, which has to stay below the 2 GB of a message
 * @throws {RangeError} if the model has biases, or is too large
 */
export function writeOnnx(path: string, config: ModelConfig, weights: WeightSource): void {
  if (config.bias.qkv || config.bias.output || config.bias.ffn) {
    throw new RangeError("Models with biases are not written as ONNX");
  }
  const graph = decoderGraph(config, weights);
  const model = new Message().int(1, 8).text(2, "bench").message(
    7,
    graph.message.text(2, "decoder"),
  );
  for (const [domain, version] of [["", 17], [CONTRIB, 1]] as const) {
    model.message(8, new Message().text(1, domain).int(2, version));
  }
  if (model.size >= 2 ** 31) throw new RangeError("The model is too large for one ONNX file");
  using file = Deno.openSync(path, { write: true, create: true, truncate: true });
  for (const chunk of model.chunks) {
    for (let at = 0; at < chunk.length;) at += file.writeSync(chunk.subarray(at));
  }
}

/** Inputs and outputs as transformers.js expects them. */
function decoderGraph(config: ModelConfig, weights: WeightSource): Graph {
  const { layers, kvHeads, headDim, vocab } = config;
  const graph = new Graph();
  const ids = graph.input("input_ids", INT64, ["batch_size", "sequence"]);
  const mask = graph.input("attention_mask", INT64, ["batch_size", "total"]);
  const lengths = lengthsOf(graph, mask);
  const caches = rotations(graph, config);
  const table = quantized(graph, weights, "model.embed_tokens.weight");
  let residual = embedded(graph, ids, table);
  let x = graph.node("SimplifiedLayerNormalization", [
    residual,
    normOf(graph, weights, "model.layers.0.input_layernorm.weight"),
  ], {
    attributes: { epsilon: { float: config.normEps } },
  });
  const shape = (length: string) => ["batch_size", kvHeads, length, headDim];
  for (let layer = 0; layer < layers; layer++) {
    const prefix = `model.layers.${layer}.`;
    const product = (input: string, name: string) =>
      multiplied(graph, input, quantized(graph, weights, `${prefix}${name}.weight`));
    const [pastKey, pastValue] = ["key", "value"].map((kind) =>
      graph.input(`past_key_values.${layer}.${kind}`, FLOAT, shape("past"))
    );
    const present = ["key", "value"].map((kind) => `present.${layer}.${kind}`);
    const [q, k, v] = ["q", "k", "v"].map((kind) => product(x, `self_attn.${kind}_proj`));
    const attended = graph.node(
      "GroupQueryAttention",
      [q!, k!, v!, pastKey!, pastValue!, ...lengths, ...caches],
      {
        outputs: [`attention.${layer}`, ...present],
        domain: CONTRIB,
        attributes: {
          num_heads: config.heads,
          kv_num_heads: kvHeads,
          do_rotary: 1,
          rotary_interleaved: 1, // GGUF files of this architecture are laid out so
          scale: { float: 1 / Math.sqrt(headDim) },
        },
      },
    );
    for (const name of present) graph.output(name, FLOAT, shape("total"));
    const norm = (name: string, update: string) => {
      const outputs = [`${name}.normed`, "", "", `${name}.sum`];
      const gamma = normOf(graph, weights, name);
      graph.node("SkipSimplifiedLayerNormalization", [update, residual, gamma], {
        outputs,
        domain: CONTRIB,
        attributes: { epsilon: { float: config.normEps } },
      });
      residual = outputs[3]!;
      return outputs[0]!;
    };
    x = norm(`${prefix}post_attention_layernorm.weight`, product(attended, "self_attn.o_proj"));
    const gate = product(x, "mlp.gate_proj");
    const activated = graph.node("Mul", [gate, graph.node("Sigmoid", [gate])]);
    const inner = graph.node("Mul", [activated, product(x, "mlp.up_proj")]);
    const next = layer + 1 < layers
      ? `model.layers.${layer + 1}.input_layernorm.weight`
      : "model.norm.weight";
    x = norm(next, product(inner, "mlp.down_proj"));
  }
  // Only the last token's logits, as newer exports do on request.
  const last = graph.node("Slice", [
    x,
    graph.integers("minus one", -1),
    graph.integers("far", 2 ** 31 - 1),
    graph.integers("sequence axis", 1),
  ]);
  multiplied(graph, last, table, "logits");
  graph.output("logits", FLOAT, ["batch_size", 1, vocab]);
  return graph;
}

/** Per sequence its last position, and the length of the longest. */
function lengthsOf(graph: Graph, mask: string): readonly string[] {
  const counts = graph.node("ReduceSum", [mask, graph.integers("mask axis", 1)], {
    attributes: { keepdims: 0 },
  });
  const last = graph.node("Sub", [counts, graph.integers("one", 1)]);
  const total = graph.node("Gather", [
    graph.node("Shape", [mask]),
    graph.constant("mask length", INT64, [], BigInt64Array.of(1n)),
  ]);
  return [last, total].map((x) => graph.node("Cast", [x], { attributes: { to: INT32 } }));
}

/** Cosines and sines by position, [context, headDim / 2]. */
function rotations(graph: Graph, config: ModelConfig): readonly string[] {
  const { headDim, contextLength } = config;
  const frequencies = ropeFrequencies(headDim, config.rope);
  const half = headDim / 2;
  return ([["cosines", Math.cos], ["sines", Math.sin]] as const).map(([name, of]) => {
    const values = Float32Array.from(
      { length: contextLength * half },
      (_, i) => of(Math.floor(i / half) * frequencies[i % half]!),
    );
    return graph.constant(name, FLOAT, [contextLength, half], values);
  });
}

function normOf(graph: Graph, weights: WeightSource, name: string): string {
  return graph.constant(name, FLOAT, weights.shape(name), weights.f32(name));
}

/** A matrix in blocks. */
interface Quantized {
  readonly name: string;
  readonly rows: number;
  readonly cols: number;
  readonly bits: number;
}

/** Adds integers, [rows, blocks, bytes of a block], and scales of a Q4_0 or Q8_0 matrix. */
function quantized(graph: Graph, weights: WeightSource, name: string): Quantized {
  const [rows, cols] = weights.shape(name) as [number, number];
  const bits = weights.dtype(name) === "Q4_0" ? 4 : 8;
  const { integers, scales } = unpacked(weights.raw(name), bits);
  const blocks = cols / BLOCK;
  graph.constant(name, UINT8, [rows, blocks, BLOCK * bits / 8], integers);
  graph.constant(`${name}.scales`, FLOAT, [rows * blocks], scales);
  return { name, rows, cols, bits };
}

/** Integers without a sign, as MatMulNBits takes them: their zero is in the middle of the range. */
function unpacked(raw: Uint8Array, bits: 4 | 8) {
  const bytes = BLOCK * bits / 8, blocks = raw.length / (2 + bytes);
  const integers = new Uint8Array(blocks * bytes), scales = new Float32Array(blocks);
  for (let block = 0; block < blocks; block++) {
    const from = block * (2 + bytes), to = block * bytes;
    scales[block] = f16Values[raw[from]! | raw[from + 1]! << 8]!;
    for (let i = 0; i < bytes; i++) {
      if (bits === 8) {
        integers[to + i] = raw[from + 2 + i]! ^ 0x80;
        continue;
      }
      // Weights i and i + 16 share a byte there, neighbours here.
      const nibble = (weight: number) => raw[from + 2 + weight % 16]! >> (weight < 16 ? 0 : 4) & 15;
      integers[to + i] = nibble(2 * i) | nibble(2 * i + 1) << 4;
    }
  }
  return { integers, scales };
}

function multiplied(
  graph: Graph,
  x: string,
  { name, rows, cols, bits }: Quantized,
  output?: string,
): string {
  return graph.node("MatMulNBits", [x, name, `${name}.scales`], {
    ...output === undefined ? {} : { outputs: [output] },
    domain: CONTRIB,
    // Products of activations in 8 bits, as in the other backends.
    attributes: { K: cols, N: rows, bits, block_size: BLOCK, accuracy_level: 4 },
  });
}

function embedded(graph: Graph, ids: string, { name, rows, cols, bits }: Quantized): string {
  const table = graph.node("Reshape", [name, graph.integers("table", rows, cols * bits / 8)]);
  const scales = graph.node("Reshape", [
    `${name}.scales`,
    graph.integers("table scales", rows, cols / BLOCK),
  ]);
  return graph.node("GatherBlockQuantized", [table, ids, scales], {
    domain: CONTRIB,
    attributes: { bits, block_size: BLOCK, gather_axis: 0, quantize_axis: 1 },
  });
}
