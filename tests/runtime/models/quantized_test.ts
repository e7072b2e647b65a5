/** Decoders with quantised weights, against the reference over the same weights dequantised. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import type { Backend } from "../../../runtime/backend/backend.ts";
import { createCpuBackend } from "../../../runtime/backend/cpu/mod.ts";
import { createWasmBackend } from "../../../runtime/backend/wasm/mod.ts";
import { createLocalExecutor } from "../../../runtime/engine/local_executor.ts";
import { dequantize } from "../../../runtime/formats/quants.ts";
import type { WeightSource } from "../../../runtime/formats/weights.ts";
import { loadDecoder, type ModelConfig, type WeightFormat } from "../../../runtime/models/mod.ts";
import { hashedWeights, llamaShapes, tinyConfig } from "../../fakes/hashed_weights.ts";
import { rowsOf, Sequence } from "../../fakes/sequence.ts";

const config: ModelConfig = {
  ...tinyConfig,
  hidden: 64,
  ffn: 96,
  heads: 4,
  kvHeads: 2,
  headDim: 16,
};
const tokens = Array.from({ length: 24 }, (_, i) => (i * i + 7 * i) % config.vocab);

/** Logits of all tokens, cut into chunks. */
async function logitsOf(
  backend: Backend,
  weights: WeightSource,
  format: WeightFormat,
  chunks: readonly number[] = [tokens.length],
): Promise<Float32Array[]> {
  const decoder = loadDecoder(config, weights, backend, { weights: format });
  assertEquals(decoder.parameters, loadDecoder(config, weights, backend).parameters);
  const options = { pages: 8, pageSize: 8, contextLength: 64 };
  await using executor = createLocalExecutor(decoder, backend, options);
  const sequence = new Sequence(executor, Uint32Array.from({ length: 8 }, (_, i) => i));
  const logits: Float32Array[] = [];
  for (const length of chunks) {
    const part = tokens.slice(sequence.length, sequence.length + length);
    const [answer] = await sequence.run(part, [{ kind: "logits", last: length }]);
    logits.push(...rowsOf(answer!));
  }
  return logits;
}

/** Root of the mean square of the error, relative to that of the values. */
function relativeError(actual: readonly Float32Array[], expected: readonly Float32Array[]): number {
  let error = 0, size = 0;
  for (const [r, row] of expected.entries()) {
    for (const [i, value] of row.entries()) {
      error += (value - actual[r]![i]!) ** 2;
      size += value ** 2;
    }
  }
  return Math.sqrt(error / size);
}

/** The weights as a GGUF file of one type would hold them: made-up blocks for every matrix. */
function storedWeights(type: "Q8_0" | "Q4_0"): WeightSource {
  const plain = hashedWeights(llamaShapes(config));
  const isMatrix = (name: string) => plain.shape(name).length === 2;
  const raw = (name: string): Uint8Array<ArrayBuffer> => {
    if (!isMatrix(name)) return plain.raw(name);
    return encode(type, plain.f32(name));
  };
  return {
    ...plain,
    dtype: (name) => isMatrix(name) ? type : "F32",
    f32: (name) => isMatrix(name) ? dequantize(type, raw(name), "test") : plain.f32(name),
    raw,
  };
}

/** A coarse encoder: the scale of every block is a power of two. */
function encode(type: "Q8_0" | "Q4_0", values: Float32Array): Uint8Array<ArrayBuffer> {
  const [bytes, top] = type === "Q8_0" ? [34, 127] as const : [18, 7] as const;
  const out = new Uint8Array(values.length / 32 * bytes);
  for (let block = 0; block < values.length / 32; block++) {
    const part = values.subarray(32 * block, 32 * block + 32);
    const exponent = Math.ceil(Math.log2(Math.max(...part.map(Math.abs)) / top));
    const at = block * bytes;
    out[at + 1] = (exponent + 15) << 2; // half precision 2^exponent
    for (const [k, value] of part.entries()) {
      const q = Math.round(value / 2 ** exponent);
      if (type === "Q8_0") out[at + 2 + k] = q;
      else out[at + 2 + k % 16]! |= (q + 8) << (k < 16 ? 0 : 4);
    }
  }
  return out;
}

for (const type of ["Q8_0", "Q4_0"] as const) {
  Deno.test(`loadDecoder() multiplies with the integers of a ${type} file`, async () => {
    using backend = createWasmBackend();
    const weights = storedWeights(type);
    // Dequantising such a matrix would be a mistake here, not only slow.
    const watched: WeightSource = {
      ...weights,
      f32(name) {
        assertEquals(weights.dtype(name), "F32");
        return weights.f32(name);
      },
    };
    const actual = await logitsOf(backend, watched, "file");
    using reference = createCpuBackend();
    const expected = await logitsOf(reference, weights, "file");
    // Activations have 8 bits beside 4-bit weights: half a step is 0.4 % of a block's largest value,
    // or about 0.5 % of its root mean square on average; one token passes through nine matrices in a
    // row. Beside 8-bit weights they have 7 bits, and so have the weights: steps twice as large.
    const error = relativeError(actual, expected);
    const most = type === "Q8_0" ? 0.04 : 0.02;
    assert(error > 1e-4 && error < most, `off by ${error}`);
    using dequantised = createWasmBackend();
    assert(relativeError(await logitsOf(dequantised, weights, "f32"), expected) < 1e-5);
  });
}

Deno.test("loadDecoder() reads matrices a few rows at a time where the file can", () => {
  using backend = createWasmBackend();
  const wide: ModelConfig = { ...config, vocab: 40_000 };
  const plain = hashedWeights(llamaShapes(wide));
  let largest = 0;
  const isMatrix = (name: string) => plain.shape(name).length === 2;
  const decoder = loadDecoder(wide, {
    ...plain,
    f32(name) {
      assert(!isMatrix(name), `${name} was read as a whole`);
      return plain.f32(name);
    },
    rawInto(name, offset, out) {
      largest = Math.max(largest, out.length);
      out.set(plain.raw(name).subarray(offset, offset + out.length));
    },
  }, backend);
  decoder[Symbol.dispose]();
  assert(largest > 0 && largest <= 1 << 20, `${largest} bytes at a time`); // of 10 MB
});

// q8 has 7 bits for weights and activations: steps are twice those of 8 bits, whose bound is 0.02.
for (const [format, most] of [["q8", 0.04], ["q4", 0.25]] as const) {
  Deno.test(`loadDecoder() quantises to ${format}, and chunks change nothing to the bit`, async () => {
    const weights = hashedWeights(llamaShapes(config));
    using backend = createWasmBackend();
    const actual = await logitsOf(backend, weights, format);
    using reference = createCpuBackend();
    const error = relativeError(actual, await logitsOf(reference, weights, "f32"));
    assert(error > 1e-3 && error < most, `off by ${error}`);
    const chunks = [1, 5, 1, 9, 1, 1, 6];
    assertEquals(await logitsOf(backend, weights, format, chunks), actual);
    using strict = createWasmBackend({ relaxedSimd: false });
    assertEquals(await logitsOf(strict, weights, format), actual, "without relaxed SIMD");
  });

  Deno.test(`loadDecoder() refuses ${format} on a backend without it`, () => {
    using reference = createCpuBackend();
    const weights = hashedWeights(llamaShapes(config));
    assertThrows(() => loadDecoder(config, weights, reference, { weights: format }), TypeError);
  });

  Deno.test(`loadDecoder() holds matrices of odd widths as f32 beside ${format}`, () => {
    using backend = createWasmBackend();
    const weights = hashedWeights(llamaShapes(tinyConfig));
    using decoder = loadDecoder(tinyConfig, weights, backend, { weights: format });
    assertEquals(decoder.config, tinyConfig);
  });
}
