/**
 * Run by hand: 10,000 decode steps and 1,000 loads and unloads of a tiny model, and what they leave on
 * the GPU and in this process.
 *
 *     deno run -A --v8-flags=--expose-gc bench/gpu/growth.ts [steps] [loads]
 */
import { createLocalExecutor } from "../../runtime/engine/local_executor.ts";
import { createGpuBackend, openGpu } from "../../runtime/backend/webgpu/mod.ts";
import { loadDecoder } from "../../runtime/models/mod.ts";
import { greedyWant, Sequence } from "../../tests/fakes/sequence.ts";
import { hashedWeights, llamaShapes, tinyConfig } from "../../tests/fakes/hashed_weights.ts";

const [steps = 10_000, loads = 1000] = Deno.args.map(Number);
const gpu = await openGpu();
if (gpu === undefined) throw new Error("There is no WebGPU adapter");
const readback = Deno.version.deno === "2.9.6" && Deno.build.os === "linux" ? "fast" : "await";
const weights = hashedWeights(llamaShapes(tinyConfig));
const rssMiB = () => Math.round(Deno.memoryUsage().rss / 2 ** 20);
const say = (line: Record<string, unknown>) => {
  collect();
  // deno-lint-ignore no-console
  console.log(JSON.stringify({ ...line, rss_mib: rssMiB() }));
};
/** As between the steps of an engine: promises that nobody awaited are only freed then. */
const turn = () => new Promise((resolve) => setImmediate(resolve));
/** With `--v8-flags=--expose-gc` what waits for the collector is not counted. */
const collect = () => (globalThis as { gc?: () => void }).gc?.();
const open = () => {
  const backend = createGpuBackend(gpu, { readback });
  const decoder = loadDecoder(tinyConfig, weights, backend);
  const executor = createLocalExecutor(decoder, backend, {
    pages: 8,
    pageSize: 16,
    contextLength: Math.min(128, tinyConfig.contextLength),
  });
  return { backend, executor };
};

{
  const { backend, executor } = open();
  for (let step = 0; step < steps;) {
    const sequence = new Sequence(executor, Uint32Array.from({ length: 8 }, (_, i) => i));
    for (let t = 0; t < 30 && step < steps; t++, step++) {
      await sequence.run([t % tinyConfig.vocab], [greedyWant]);
      await turn();
      if (step % Math.ceil(steps / 5) === 99) say({ step, ...backend.stats() });
    }
  }
  say({ step: steps, ...backend.stats() });
  await executor[Symbol.asyncDispose]();
  backend[Symbol.dispose]();
}
for (let load = 1; load <= loads; load++) {
  const { backend, executor } = open();
  const sequence = new Sequence(executor, Uint32Array.of(0, 1));
  await sequence.run([1, 2, 3], [greedyWant]);
  await turn();
  await executor[Symbol.asyncDispose]();
  const left = backend.stats().bytes;
  backend[Symbol.dispose]();
  if (load === 10 || load % Math.ceil(loads / 5) === 0) {
    say({ load, bytes_before_close: left, bytes: backend.stats().bytes });
  }
}
Deno.exit(0);
