/**
 * Forecasts of the next attention row from the last ones, each row reduced to block maxima.
 *
 * Source: AttentionPredictor, https://arxiv.org/abs/2502.04077: two 3x3 convolutions over (time, block),
 * mean over time, a 1x1 convolution: 4,833 weights for all layers and heads. Mean and last row are the
 * rivals it has to beat.
 */
import { FormatError } from "../../errors.ts";

/** Rows oldest first, all [blocks] -> one score per block. */
export type Forecast = (rows: readonly Float32Array[]) => Float32Array;

/** The mean of the rows. */
export const meanRows: Forecast = (rows) => {
  const out = new Float32Array(rows[0]?.length ?? 0);
  for (const row of rows) row.forEach((value, block) => out[block]! += value / rows.length);
  return out;
};

/** A copy of the last row. */
export const lastRow: Forecast = (rows) => (rows.at(-1) ?? new Float32Array(0)).slice();

interface Convolution {
  /** [outputs, inputs, 3, 3] */
  readonly weight: Float32Array;
  readonly bias: Float32Array;
  readonly inputs: number;
  readonly outputs: number;
}

/**
 * The network. Its image has always `history` rows, missing ones are zero; borders are padded with zeros.
 *
 * @throws {FormatError} if a tensor is missing or has another size
 */
export function network(
  tensors: Readonly<Record<string, Float32Array>>,
  history: number,
): Forecast {
  const take = (name: string, size: number): Float32Array => {
    const found = tensors[name];
    if (found?.length === size) return found;
    throw new FormatError(`tensor ${JSON.stringify(name)} should have ${size} numbers`, {
      source: "KV adapter",
    });
  };
  const first = convolution(take, "conv1", 1, 16), second = convolution(take, "conv2", 16, 32);
  const mix = take("conv3.weight", 32), [offset = 0] = take("conv3.bias", 1);
  return (rows) => {
    const blocks = rows[0]?.length ?? 0;
    const image = new Float32Array(history * blocks);
    rows.forEach((row, i) => image.set(row, (history - rows.length + i) * blocks));
    const hidden = convolve(convolve(image, first, history, blocks), second, history, blocks);
    const out = new Float32Array(blocks).fill(offset);
    for (let channel = 0; channel < 32; channel++) {
      const scale = mix[channel]! / history;
      for (let i = 0; i < history * blocks; i++) {
        out[i % blocks]! += scale * hidden[channel * history * blocks + i]!;
      }
    }
    return out;
  };
}

function convolution(
  take: (name: string, size: number) => Float32Array,
  name: string,
  inputs: number,
  outputs: number,
): Convolution {
  const weight = take(`${name}.weight`, outputs * inputs * 9);
  return { weight, bias: take(`${name}.bias`, outputs), inputs, outputs };
}

/** [inputs, rows, columns] -> [outputs, rows, columns], 3x3 with zero padding, then ReLU. */
function convolve(
  image: Float32Array,
  { weight, bias, inputs, outputs }: Convolution,
  rows: number,
  columns: number,
): Float32Array {
  const plane = rows * columns;
  const out = new Float32Array(outputs * plane);
  for (let o = 0; o < outputs; o++) {
    out.fill(bias[o]!, o * plane, (o + 1) * plane);
    for (let i = 0; i < inputs; i++) {
      for (let tap = 0; tap < 9; tap++) {
        const scale = weight[(o * inputs + i) * 9 + tap]!;
        const down = Math.floor(tap / 3) - 1, right = tap % 3 - 1;
        addShifted(out, o * plane, image, i * plane, { scale, down, right, rows, columns });
      }
    }
  }
  for (let i = 0; i < out.length; i++) if (!(out[i]! > 0)) out[i] = 0;
  return out;
}

/** to[r, c] += scale * from[r + down, c + right] where that exists. */
function addShifted(
  to: Float32Array,
  toAt: number,
  from: Float32Array,
  fromAt: number,
  { scale, down, right, rows, columns }: {
    readonly scale: number;
    readonly down: number;
    readonly right: number;
    readonly rows: number;
    readonly columns: number;
  },
): void {
  const firstColumn = Math.max(0, -right), endColumn = Math.min(columns, columns - right);
  for (let r = Math.max(0, -down); r < Math.min(rows, rows - down); r++) {
    const target = toAt + r * columns, source = fromAt + (r + down) * columns + right;
    for (let c = firstColumn; c < endColumn; c++) to[target + c]! += scale * from[source + c]!;
  }
}
