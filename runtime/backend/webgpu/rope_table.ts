/**
 * Cosines and sines of every position of a model, rounded from double precision as on the CPU, in a
 * table on the GPU that grows with the positions used.
 */
import type { Rope } from "../backend.ts";
import type { GpuBuffer, Memory } from "./memory.ts";

const FIRST_POSITIONS = 256;

interface Table {
  buffer: GpuBuffer;
  /** Positions in the buffer. */
  positions: number;
}

/** Tables by the model's frequencies. */
export class RopeTables {
  readonly #memory: Memory;
  readonly #queue: GPUQueue;
  readonly #tables = new WeakMap<Float64Array, Table>();

  constructor(memory: Memory, queue: GPUQueue) {
    this.#memory = memory;
    this.#queue = queue;
  }

  /**
   * [positions, headDim]: per position its cosines, then its sines. A table that is replaced stays until
   * recorded commands have been submitted.
   */
  get({ frequencies }: Rope, largest: number): GpuBuffer {
    const table = this.#tables.get(frequencies);
    if (table !== undefined && largest < table.positions) return table.buffer;
    let positions = table?.positions ?? FIRST_POSITIONS;
    while (positions <= largest) positions *= 2;
    if (table !== undefined) this.#memory.retire(table.buffer);
    const values = rotations(frequencies, positions);
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST;
    const buffer = this.#memory.buffer("rope", values.byteLength, usage);
    this.#queue.writeBuffer(buffer.raw, 0, values);
    this.#tables.set(frequencies, { buffer, positions });
    return buffer;
  }
}

function rotations(frequencies: Float64Array, positions: number): Float32Array<ArrayBuffer> {
  const half = frequencies.length;
  const out = new Float32Array(positions * 2 * half);
  for (let p = 0, at = 0; p < positions; p++, at += 2 * half) {
    for (let i = 0; i < half; i++) {
      out[at + i] = Math.cos(p * frequencies[i]!);
      out[at + half + i] = Math.sin(p * frequencies[i]!);
    }
  }
  return out;
}
