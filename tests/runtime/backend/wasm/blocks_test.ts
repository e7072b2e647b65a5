/** Quantised weights: against the dequantised matrix, and the same with and without relaxed SIMD. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import type { Backend, QuantizedDType, Tensor } from "../../../../runtime/backend/backend.ts";
import { createCpuBackend } from "../../../../runtime/backend/cpu/mod.ts";
import { createWasmBackend } from "../../../../runtime/backend/wasm/mod.ts";
import { ShapeError } from "../../../../runtime/errors.ts";
import { dequantize } from "../../../../runtime/formats/quants.ts";
import { evaluate } from "../../../conformance/_backend_ops.ts";
import { type Matrix, randomMatrix, randomOf } from "../../../conformance/_backend_reference.ts";

const dtypes: readonly QuantizedDType[] = ["q8", "q4"];
const shapes = [[1, 32], [3, 64], [4, 32], [5, 96], [16, 32], [21, 64], [40, 160]] as const;

function upload(backend: Backend, { rows, cols, data }: Matrix, dtype?: QuantizedDType): Tensor {
  return backend.tensor("test", [rows, cols], dtype ?? "f32", data);
}

/** The first `rows` rows from row `start`. */
function rowsOf({ cols, data }: Matrix, start: number, rows: number): Matrix {
  return { rows, cols, data: data.slice(start * cols, (start + rows) * cols) };
}

/** The largest integers of activations beside such weights. */
const mostOfX = { q8: 63, q4: 127 } as const;

/**
 * Exact products with the dequantised weights, and how far the result may be off: half a step of
 * the activations (their block's largest value / 63 or 127) times each weight, and f32 rounding of
 * scales, products and sums per block.
 */
function expected(dtype: QuantizedDType, x: Matrix, w: Matrix, bias: Float32Array) {
  return Array.from({ length: x.rows * w.rows }, (_, i) => {
    const r = Math.floor(i / w.rows), n = i % w.rows;
    let value = bias[n]!, tolerance = Math.abs(value) * 2 ** -23;
    for (let start = 0; start < x.cols; start += 32) {
      const xs = x.data.subarray(r * x.cols + start, r * x.cols + start + 32);
      const half = Math.max(...xs.map(Math.abs)) / (2 * mostOfX[dtype]);
      for (const [k, u] of xs.entries()) {
        const weight = w.data[n * w.cols + start + k]!;
        value += u * weight;
        tolerance += Math.abs(weight) * (half * (1 + 2 ** -20) + Math.abs(u) * 2 ** -20);
      }
    }
    return { value, tolerance };
  });
}

/** Values of Q8_0 blocks after rounding, one by one; see the kernel pack_q8. */
function inSevenBits(bytes: Uint8Array<ArrayBuffer>): Float32Array {
  const view = new DataView(bytes.buffer), values = new Float32Array(bytes.length / 34 * 32);
  for (let b = 0; b < bytes.length / 34; b++) {
    const scale = view.getFloat16(34 * b, true);
    const integers = Array.from({ length: 32 }, (_, k) => view.getInt8(34 * b + 2 + k));
    const most = Math.max(...integers.map(Math.abs));
    const { fround } = Math;
    const rounded = most <= 63 ? scale : Math.f16round(fround(fround(scale * most) / 63));
    const ratio = fround(scale / rounded);
    for (const [k, q] of integers.entries()) {
      const near = Math.min(63, Math.max(-63, tiesToEven(fround(q * ratio))));
      values[32 * b + k] = rounded === 0 ? 0 : near * rounded + 0;
    }
  }
  return values;
}

function tiesToEven(value: number): number {
  const near = Math.round(value);
  return near - value === 0.5 && near % 2 !== 0 ? near - 1 : near;
}

Deno.test("quantized() of q8 keeps blocks of up to 7 bits, takes the least scales and refuses one above f16", async () => {
  using backend = createWasmBackend();
  const make = (scale: number, integers: readonly number[]) => {
    const bytes = new Uint8Array(34), view = new DataView(bytes.buffer);
    view.setFloat16(0, scale, true);
    for (let k = 0; k < 32; k++) view.setInt8(2 + k, integers[k % integers.length]!);
    return bytes;
  };
  for (
    const [scale, integers] of [
      [0.3, [63, -63, 1, 0]],
      [0.3, [127, -126, 64, 3, -1]],
      [0.3, [-128, 127]],
      [2 ** -24, [127, 5, -63]], // the least half precision has
      [5 * 2 ** -24, [127, 100, -63, 1]],
      [2 ** -14, [101, -100]],
      [0, [127, -5]],
      [32000, [127, -90]],
    ] as const
  ) {
    const bytes = make(scale, integers);
    using tensor = backend.quantized!("w", [1, 32], "q8", bytes);
    const values = await backend.read(tensor);
    assertEquals(values, inSevenBits(bytes), `${scale}`);
    if (integers[0] === 63) assertEquals(values, dequantize("Q8_0", bytes, "test"));
  }
  for (const scale of [33000, Infinity]) {
    const bytes = make(scale, [127]);
    assertThrows(() => backend.quantized!("w", [1, 32], "q8", bytes), RangeError, "65504");
  }
});

for (const dtype of dtypes) {
  Deno.test(`linear() over ${dtype} weights is as exact as its activations allow`, async () => {
    using backend = createWasmBackend();
    const rng = randomOf(40);
    let worst = 0;
    for (const [outputs, depth] of shapes) {
      for (const rows of [1, 2, 3, 4, 7]) {
        const x = randomMatrix(rng, rows, depth);
        const bias = randomMatrix(rng, 1, outputs).data;
        using xt = upload(backend, x);
        using wt = upload(backend, randomMatrix(rng, outputs, depth), dtype);
        using bt = backend.tensor("bias", [outputs], "f32", bias);
        const w = { rows: outputs, cols: depth, data: await backend.read(wt) };
        const actual = await evaluate(backend, (ops) => ops.linear(xt, wt, bt));
        for (const [i, { value, tolerance }] of expected(dtype, x, w, bias).entries()) {
          const error = Math.abs(actual[i]! - value);
          assert(error <= tolerance, `[${outputs}, ${depth}], value ${i}: off by ${error}`);
          worst = Math.max(worst, error / tolerance);
        }
      }
    }
    assert(worst > 0.1, "the bound is not far from what happens");
  });

  Deno.test(`linear() over ${dtype} is the same to the bit alone, in a batch and without relaxed SIMD`, async () => {
    using backend = createWasmBackend();
    using strict = createWasmBackend({ relaxedSimd: false });
    const rng = randomOf(41);
    for (const [outputs, depth] of shapes) {
      // Large and uneven, so that every bit of the integers is in use.
      const x = randomMatrix(rng, 8, depth), w = randomMatrix(rng, outputs, depth);
      for (const i of x.data.keys()) x.data[i]! **= 5;
      const run = async (on: Backend, start: number, rows: number) => {
        using xt = upload(on, rowsOf(x, start, rows));
        using wt = upload(on, w, dtype);
        return await evaluate(on, (ops) => ops.linear(xt, wt));
      };
      const alone: number[] = [];
      for (let r = 0; r < 8; r++) alone.push(...await run(backend, r, 1));
      for (let rows = 2; rows <= 8; rows++) {
        const together = await run(backend, 8 - rows, rows);
        assertEquals([...together], alone.slice((8 - rows) * outputs), `${rows} rows`);
        assertEquals(await run(strict, 8 - rows, rows), together, `${rows} rows, strict`);
      }
    }
  });

  Deno.test(`linear() over ${dtype} holds the largest sums there are`, async () => {
    using backend = createWasmBackend();
    using strict = createWasmBackend({ relaxedSimd: false });
    for (const [x, w] of [[1, 1], [1, -1], [-1, 1], [-1, -1]] as const) {
      const run = async (on: Backend) => {
        using xt = upload(on, { rows: 1, cols: 64, data: new Float32Array(64).fill(x) });
        using wt = upload(on, { rows: 4, cols: 64, data: new Float32Array(256).fill(w) }, dtype);
        return await evaluate(on, (ops) => ops.linear(xt, wt));
      };
      const sums = await run(backend);
      assertEquals(await run(strict), sums);
      for (const sum of sums) assert(Math.abs(sum / (64 * x * w) - 1) < 1e-3, `${sum}`);
    }
  });

  Deno.test(`linear() over ${dtype} is the same to the bit beside weights larger than a cache`, async () => {
    using backend = createWasmBackend();
    const rng = randomOf(44);
    const x = randomMatrix(rng, 7, 64), w = randomMatrix(rng, 53, 64);
    using xt = upload(backend, x);
    using wt = upload(backend, w, dtype);
    const small = await evaluate(backend, (ops) => ops.linear(xt, wt));
    using other = backend.tensor("other", [4096, 4096], "f32");
    assertEquals(other.shape, [4096, 4096]);
    assertEquals(await evaluate(backend, (ops) => ops.linear(xt, wt)), small);
  });

  Deno.test(`tensor() of ${dtype} is off by half a step, by a whole one at its far end`, async () => {
    using backend = createWasmBackend();
    const w = randomMatrix(randomOf(42), 6, 96);
    using tensor = upload(backend, w, dtype);
    const actual = await backend.read(tensor);
    for (let start = 0; start < w.data.length; start += 32) {
      const block = w.data.subarray(start, start + 32);
      const most = Math.max(...block.map(Math.abs));
      for (const [k, value] of block.entries()) {
        const error = Math.abs(actual[start + k]! - value);
        const step = most / (dtype === "q8" ? 63 : 8);
        const end = dtype === "q4" && Math.abs(value) > 7 * step;
        assert(error <= step * (end ? 1 : 0.5) * 1.0001, `off by ${error / step} steps`);
      }
    }
  });

  const does = dtype === "q8" ? "rounds integers to 7 bits" : "keeps the values";
  Deno.test(`quantized() ${does} of a GGUF file's blocks: ${dtype}`, async () => {
    using backend = createWasmBackend();
    const [type, size] = dtype === "q8" ? ["Q8_0", 34] as const : ["Q4_0", 18] as const;
    const [rows, cols] = [7, 64];
    const rng = randomOf(43);
    const bytes = Uint8Array.from({ length: rows * cols / 32 * size }, () => rng.next() * 256);
    for (let at = 1; at < bytes.length; at += size) bytes[at] = 0x20 + at % 16; // finite scales
    using tensor = backend.quantized!("w", [rows, cols], dtype, bytes);
    assertEquals(tensor.dtype, dtype);
    const values = dtype === "q8" ? inSevenBits(bytes) : dequantize(type, bytes, "test");
    assertEquals(await backend.read(tensor), values);
    const ids = Uint32Array.of(6, 0, 3, 3);
    const picked = await evaluate(backend, (ops) => ops.embed(tensor, ids));
    assertEquals(
      [...picked],
      [...ids].flatMap((id) => [...values.subarray(id * cols, (id + 1) * cols)]),
    );
  });

  Deno.test(`streamed() makes the tensors of tensor() and quantized(): ${dtype}`, async () => {
    using backend = createWasmBackend();
    const w = randomMatrix(randomOf(44), 2050, 160); // several pieces, the last group not full
    const part = (first: number, count: number) => w.data.slice(first * 160, (first + count) * 160);
    const shape = [2050, 160] as const;
    using whole = upload(backend, w, dtype);
    using pieces = backend.streamed!("w", shape, dtype, { kind: "f32", rows: part });
    assertEquals(await backend.read(pieces), await backend.read(whole));
    using plain = backend.streamed!("w", shape, "f32", { kind: "f32", rows: part });
    assertEquals(await backend.read(plain), w.data);
    const rowBytes = dtype === "q8" ? 170 : 90;
    const bytes = new Uint8Array(2050 * rowBytes).map((_, i) => i % (rowBytes / 5) === 1 ? 48 : i);
    using stored = backend.quantized!("w", shape, dtype, bytes);
    using read = backend.streamed!("w", shape, dtype, {
      kind: "gguf",
      rows: (first, count) => bytes.slice(first * rowBytes, (first + count) * rowBytes),
    });
    assertEquals(await backend.read(read), await backend.read(stored));
  });

  Deno.test(`${dtype} tensors refuse shapes and lengths that do not fit`, () => {
    using backend = createWasmBackend();
    assertThrows(() => backend.tensor("w", [4, 33], dtype), ShapeError);
    assertThrows(() => backend.tensor("w", [32], dtype), ShapeError);
    assertThrows(() => backend.tensor("w", [2, 32], dtype, new Float32Array(63)), RangeError);
    assertThrows(() => backend.quantized!("w", [2, 32], dtype, new Uint8Array(35)), RangeError);
    using reference = createCpuBackend();
    assertThrows(() => reference.tensor("w", [1, 32], dtype), TypeError);
    assertEquals(reference.quantized, undefined);
  });
}
