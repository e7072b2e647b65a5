import { assertEquals, assertThrows } from "@std/assert";
import { FormatError } from "../../../runtime/errors.ts";
import { readGguf } from "../../../runtime/formats/gguf.ts";
import { bytesSource } from "../../../runtime/formats/reader.ts";
import { createRowReaders } from "../../../runtime/formats/rows.ts";
import { readSafetensors } from "../../../runtime/formats/safetensors.ts";
import type { WeightSource } from "../../../runtime/formats/weights.ts";
import { createRng, seedFrom } from "../../../runtime/rng.ts";
import { ggufBytes, safetensorsBytes } from "./_writers.ts";

const ROWS = 6, COLS = 64;

/** Made-up bytes; the upper byte of every half-precision number keeps it finite. */
function made(length: number): Uint8Array<ArrayBuffer> {
  const rng = createRng(seedFrom(7));
  return Uint8Array.from({ length }, (_, i) => i % 2 === 0 ? 256 * rng.next() : 0x30 + i % 8);
}

const ggml = [["F32", 0, 256], ["F16", 1, 128], ["Q4_0", 2, 36], ["Q8_0", 8, 68]] as const;
const sources: readonly (readonly [label: string, open: () => WeightSource, names: string[]])[] = [
  [
    "GGUF",
    () =>
      readGguf(bytesSource(
        ggufBytes({
          tensors: ggml.map(([name, type, rowBytes]) => ({
            name,
            sizes: [COLS, ROWS],
            type,
            data: made(ROWS * rowBytes),
          })),
        }),
        "a.gguf",
      )),
    ggml.map(([name]) => name),
  ],
  [
    "safetensors",
    () => {
      const tensor = (dtype: string, bytes: number) =>
        ({ dtype, shape: [ROWS, COLS], data: made(ROWS * COLS * bytes) }) as const;
      const file = { F32: tensor("F32", 4), F16: tensor("F16", 2), BF16: tensor("BF16", 2) };
      return readSafetensors(bytesSource(safetensorsBytes(file), "a.safetensors"));
    },
    ["F32", "F16", "BF16"],
  ],
];

for (const [label, open, names] of sources) {
  Deno.test(`createRowReaders() gives the rows of ${label} tensors as stored and as f32`, () => {
    using file = open();
    const { rawInto: _, ...whole } = file;
    for (const weights of [file, whole]) {
      const readerOf = createRowReaders(weights);
      for (const name of names) {
        const reader = readerOf(name, [ROWS, COLS]);
        const bytes = file.raw(name), values = file.f32(name), rowBytes = bytes.length / ROWS;
        for (const [first, count] of [[0, ROWS], [1, 3], [5, 1], [6, 0]] as const) {
          const end = first + count;
          assertEquals(reader.stored(first, count), bytes.slice(first * rowBytes, end * rowBytes));
          assertEquals(reader.f32(first, count), values.slice(first * COLS, end * COLS));
        }
      }
    }
  });

  Deno.test(`rawInto() of ${label} refuses what is outside of the tensor`, () => {
    using file = open();
    const size = file.raw("F16").length;
    const outside = [[0, size + 1], [size, 1], [-1, 1], [0.5, 1], [NaN, 1], [2 ** 53, 0]] as const;
    for (const [offset, length] of outside) {
      assertThrows(() => file.rawInto!("F16", offset, new Uint8Array(length)), FormatError);
    }
    assertThrows(() => file.rawInto!("none", 0, new Uint8Array(0)), FormatError, "none");
  });
}
