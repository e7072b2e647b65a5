/** Writes a GGUF file of random weights that both sides of the comparison load. */
import type { WeightSource } from "../../runtime/formats/weights.ts";
import type { ModelConfig } from "../../runtime/models/mod.ts";
import { ByteWriter, type GgufPair, writePair } from "../../tests/runtime/formats/_writers.ts";
import { ggufPairs } from "../../tests/runtime/models/_gguf_of.ts";

const ALIGNMENT = 32;

const renames: readonly (readonly [from: string, to: string])[] = [
  ["model.embed_tokens", "token_embd"],
  ["model.norm", "output_norm"],
  ["model.layers.", "blk."],
  ["self_attn.q_proj", "attn_q"],
  ["self_attn.k_proj", "attn_k"],
  ["self_attn.v_proj", "attn_v"],
  ["self_attn.o_proj", "attn_output"],
  ["input_layernorm", "attn_norm"],
  ["post_attention_layernorm", "ffn_norm"],
  ["mlp.gate_proj", "ffn_gate"],
  ["mlp.up_proj", "ffn_up"],
  ["mlp.down_proj", "ffn_down"],
];
const typeIds: Readonly<Record<string, number>> = { F32: 0, Q4_0: 2, Q8_0: 8 };

/** What the file holds. */
export interface WrittenFile {
  /** Bytes of all tensors, without metadata and padding. */
  readonly weightBytes: number;
  readonly parameters: number;
}

/** Writes tensor by tensor, so that a file larger than memory would do. */
export function writeGguf(path: string, config: ModelConfig, weights: WeightSource): WrittenFile {
  using file = Deno.openSync(path, { write: true, create: true, truncate: true });
  const names = [...weights.names()];
  const sizes = names.map((name) => byteLength(weights, name));
  const head = header(config, weights, names, sizes);
  writeAll(file, head);
  names.forEach((name, i) => {
    writeAll(file, weights.raw(name));
    writeAll(file, new Uint8Array(padded(sizes[i]!) - sizes[i]!));
  });
  return {
    weightBytes: sizes.reduce((a, b) => a + b, 0),
    parameters: names.reduce((sum, name) => sum + elements(weights, name), 0),
  };
}

function header(
  config: ModelConfig,
  weights: WeightSource,
  names: readonly string[],
  sizes: readonly number[],
): Uint8Array {
  const pairs = [...ggufPairs(config), ...tokenizerPairs(config.vocab)];
  const out = new ByteWriter().text("GGUF").u32(3).u64(names.length).u64(pairs.length);
  for (const pair of pairs) writePair(out, pair);
  let offset = 0;
  names.forEach((name, i) => {
    const shape = weights.shape(name);
    out.string(renames.reduce((text, [from, to]) => text.replace(from, to), name));
    out.u32(shape.length);
    for (const size of shape.toReversed()) out.u64(size);
    out.u32(typeIds[weights.dtype(name)]!).u64(offset);
    offset += padded(sizes[i]!);
  });
  return out.pad(ALIGNMENT).bytes();
}

/** A byte-level vocabulary with one merge; all other tokens are never made from text. */
function tokenizerPairs(vocab: number): GgufPair[] {
  const bytes = byteLevelAlphabet();
  const tokens = Array.from({ length: vocab }, (_, id) => bytes[id] ?? `[unused${id}]`);
  tokens[256] = "<|endoftext|>";
  tokens[257] = "th";
  const types = tokens.map((_, id) => id === 256 ? 3 : id < 258 ? 1 : 5);
  return [
    { key: "tokenizer.ggml.model", type: "string", value: "gpt2" },
    { key: "tokenizer.ggml.pre", type: "string", value: "gpt-2" },
    { key: "tokenizer.ggml.tokens", type: "string", value: tokens },
    { key: "tokenizer.ggml.token_type", type: "i32", value: types },
    { key: "tokenizer.ggml.merges", type: "string", value: ["t h"] },
    { key: "tokenizer.ggml.bos_token_id", type: "u32", value: 256 },
    { key: "tokenizer.ggml.eos_token_id", type: "u32", value: 256 },
  ];
}

/** GPT-2's printable stand-ins for the 256 bytes. */
function byteLevelAlphabet(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte !== 173);
    return String.fromCodePoint(printable ? byte : next++);
  });
}

function elements(weights: WeightSource, name: string): number {
  return weights.shape(name).reduce((a, b) => a * b, 1);
}

function byteLength(weights: WeightSource, name: string): number {
  const perBlock = { F32: 128, Q4_0: 18, Q8_0: 34 }[weights.dtype(name)]!;
  return elements(weights, name) / 32 * perBlock;
}

function padded(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

function writeAll(file: Deno.FsFile, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
}
