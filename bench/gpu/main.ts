/**
 * `deno task bench:gpu [--models=A,B] [--formats=f16,q8,q4] [--fast]`: everything there is to measure on a
 * GPU in one call; writes bench/results/<date>-<adapter>-gpu.json.
 *
 * On a driver that computes on the CPU only small shapes are run, which shows that the script works and
 * nothing about speed. `--fast` also measures readback without waiting, which can end the process on
 * versions of Deno it was not tested on.
 */
import {
  createGpuBackend,
  openGpu,
  probe,
  type ReadbackMode,
} from "../../runtime/backend/webgpu/mod.ts";
import type { ModelConfig } from "../../runtime/models/mod.ts";
import { readEnvironment, writeResult } from "../_environment.ts";
import { type Report, round, summary } from "../_report.ts";
import { shapes } from "../cpu/shapes.ts";
import { benchGpuKernels, copyBandwidth, type KernelSizes } from "./kernels.ts";
import { benchGpuModel } from "./models.ts";
import type { MatrixType } from "./random_weights.ts";
import { createTimer } from "./timing.ts";

const llama8B: ModelConfig = {
  ...shapes["Llama-3.2-1B"]!,
  tieEmbeddings: false,
  hidden: 4096,
  ffn: 14_336,
  layers: 32,
  heads: 32,
  kvHeads: 8,
  headDim: 128,
};
const models: Readonly<Record<string, ModelConfig>> = { ...shapes, "Llama-3.1-8B": llama8B };
const real: KernelSizes = {
  copyBytes: 256 << 20,
  matrices: [[576, 576], [4864, 896], [2048, 2048], [8192, 2048], [4096, 4096], [14_336, 4096]],
  contexts: [1024, 8192, 32_768],
  tokens: [1, 2, 4, 8, 16, 32, 128, 512],
  queries: 256,
  repeats: 20,
};
const small: KernelSizes = {
  copyBytes: 16 << 20,
  matrices: [[576, 576]],
  contexts: [1024],
  tokens: [1, 2, 4, 8, 16, 32],
  queries: 32,
  repeats: 2,
};

const unknown = Deno.args.find((arg) => arg !== "--fast" && !/^--(models|formats)=./.test(arg));
if (unknown !== undefined) {
  throw new RangeError(
    `Unknown option ${unknown}: known are --models=A,B of ${Object.keys(models)}, ` +
      "--formats=f16,q8,q4 and --fast",
  );
}

function option(name: string): string[] | undefined {
  const found = Deno.args.find((arg) => arg.startsWith(`--${name}=`));
  return found?.slice(name.length + 3).split(",");
}

const gpu = await openGpu();
if (gpu === undefined) throw new Error("There is no WebGPU adapter: install a Vulkan driver");
const { isSoftware } = gpu.info;
const environment = { ...await readEnvironment(), device: gpu.info.adapter };
const results: Record<string, unknown>[] = [];
const report: Report = (line) => {
  results.push({ ...line });
  // deno-lint-ignore no-console
  console.log(JSON.stringify(line));
};
const save = async () =>
  await writeResult(
    environment,
    "gpu",
    "json",
    JSON.stringify(
      { ...environment, gpu: gpu.info, limits: limitsOf(gpu.device), results },
      null,
      1,
    ) + "\n",
  );

function limitsOf(device: GPUDevice): Record<string, number> {
  const names = [
    "maxStorageBufferBindingSize",
    "maxBufferSize",
    "maxStorageBuffersPerShaderStage",
  ] as const;
  return Object.fromEntries(names.map((name) => [name, device.limits[name]]));
}

{
  using backend = createGpuBackend(gpu);
  const wrong = await probe(backend);
  report({
    name: "gpu probe",
    right: wrong === undefined,
    ...wrong === undefined ? {} : { wrong },
  });
}
const timer = await createTimer(gpu);
const sizes = isSoftware ? small : real;
const copyGBs = await copyBandwidth(gpu, timer, sizes.copyBytes);
report({ name: "gpu copy", gb_per_s: round(copyGBs), timer: timer.kind });

const modes: ReadbackMode[] = Deno.args.includes("--fast") ? ["await", "fast"] : ["await"];
for (const mode of modes) {
  for (const bytes of [4, 128 << 10, 600 << 10]) {
    using backend = createGpuBackend(gpu, { readback: mode });
    using x = backend.tensor("x", [bytes / 4], "f32");
    const times: number[] = [];
    for (let i = 0; i < 20; i++) {
      const begun = performance.now();
      await backend.read(x);
      times.push((performance.now() - begun) * 1000);
    }
    const { median, p90, runs } = summary(times.slice(2));
    report({ name: "gpu readback", mode, bytes, median_us: median, p90_us: p90, runs });
  }
}
await benchGpuKernels(gpu, timer, sizes, copyGBs, report);
await save();

const formats = (option("formats") ?? ["f16", "q8", "q4"]) as MatrixType[];
for (const name of option("models") ?? Object.keys(models)) {
  const config = models[name];
  if (config === undefined) {
    throw new RangeError(`Unknown model ${name}: known are ${Object.keys(models)}`);
  }
  for (const type of formats) {
    try {
      await benchGpuModel(
        gpu,
        timer,
        {
          name: isSoftware ? `${name}, 2 layers, 2,048 tokens` : name,
          config: isSoftware ? { ...config, layers: 2, vocab: 2048 } : config,
          type,
          batches: isSoftware ? [1, 8] : [1, 8, 32],
          prefillTokens: isSoftware ? 64 : 1024,
          steps: isSoftware ? 3 : 32,
          readback: modes.at(-1)!,
        },
        copyGBs,
        report,
      );
    } catch (error) {
      report({ name: "gpu failed", model: name, weights: type, error: String(error) });
    }
    await save();
  }
  if (isSoftware && option("models") === undefined) break;
}
const file = await save();
// deno-lint-ignore no-console
console.log(`wrote ${results.length} results to ${file}`);
Deno.exit(0);
