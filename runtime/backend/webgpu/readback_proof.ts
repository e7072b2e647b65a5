/**
 * Run in a process of its own before "fast" readback is trusted: reads without waiting, many times, and
 * compares. Where that does not work the process is ended by the runtime, which cannot be caught.
 */
import { openGpu } from "./device.ts";
import { createGpuBackend } from "./mod.ts";

const ROUNDS = 200, SIZE = 1000;

/** @throws {Error} if a value is wrong or there is no GPU */
export async function proveFastReadback(): Promise<void> {
  using gpu = await openGpu();
  if (gpu === undefined) throw new Error("There is no GPU adapter");
  using backend = createGpuBackend(gpu, { readback: "fast" });
  const values = Float32Array.from({ length: SIZE }, (_, i) => i);
  using x = backend.tensor("x", [1, SIZE], "f32", values);
  using one = backend.tensor("one", [1, SIZE], "f32", new Float32Array(SIZE).fill(1));
  let last = backend.record((ops) => ops.add(x, one));
  for (let round = 1; round <= ROUNDS; round++) {
    const read = await backend.read(last);
    if (read.some((value, i) => value !== i + round)) throw new Error(`Round ${round} is wrong`);
    const next = backend.record((ops) => ops.add(last, one));
    last[Symbol.dispose]();
    last = next;
  }
  last[Symbol.dispose]();
}

if (import.meta.main) await proveFastReadback();
