/**
 * The other side: llama.cpp as node-llama-cpp ships it, one prebuilt binary per platform, called
 * through node-llama-cpp's own native bindings without the layers above them.
 *
 * Settings as node-llama-cpp has them by default (KV in f16, weights mapped from the file and
 * repacked where its CPU code has a better layout), but for what the comparison fixes: threads,
 * streams, context, and batches of up to a whole prompt.
 */
import { createRequire } from "node:module";
import { serve, type Side } from "./_side.ts";

/** The version of node-llama-cpp. */
const VERSION = "3.22.1";

/** The part of node-llama-cpp's bindings that is used (its `AddonTypes.d.ts`). */
interface Bindings {
  AddonModel: new (path: string, options: Record<string, unknown>) => {
    init(): Promise<boolean>;
  };
  AddonContext: new (model: unknown, options: Record<string, unknown>) => LlamaContext;
  AddonSampler: new (model: unknown) => { applyConfig(config: Record<string, unknown>): void };
  markLoaded(): boolean;
  setLogger(logger: (level: number, message: string) => void): void;
  setLoggerLogLevel(level: number): void;
  loadBackends(folder?: string): void;
  init(): Promise<void>;
}

interface LlamaContext {
  init(): Promise<boolean>;
  initBatch(tokens: number): void;
  addToBatch(
    sequence: number,
    position: number,
    tokens: Uint32Array,
    wantedLogits: Uint32Array,
  ): Uint32Array;
  decodeBatch(): Promise<void>;
  sampleToken(logits: number, sampler: unknown): Promise<number>;
  disposeSequence(sequence: number): void;
}

/** Package and folder of the binary for this machine. */
function platform(): string {
  const { os, arch } = Deno.build;
  const known: Readonly<Record<string, string>> = {
    "linux x86_64": "linux-x64",
    "linux aarch64": "linux-arm64",
    "darwin x86_64": "mac-x64",
    "darwin aarch64": "mac-arm64-metal",
    "windows x86_64": "win-x64",
    "windows aarch64": "win-arm64",
  };
  const found = known[`${os} ${arch}`];
  if (found === undefined) throw new TypeError(`node-llama-cpp has no binary for ${os} ${arch}`);
  return found;
}

async function loadBindings(): Promise<Bindings> {
  const name = platform();
  // A computed name: the package is fetched for this process only and is no part of the lock file.
  const specifier = `npm:@node-llama-cpp/${name}@${VERSION}`;
  const { getBinsDir } = await import(specifier) as { getBinsDir(): { binsDir: string } };
  const folder = `${getBinsDir().binsDir}/${name}`;
  const bindings: Bindings = createRequire(import.meta.url)(`${folder}/llama-addon.node`);
  bindings.markLoaded();
  bindings.setLogger((_level, text) => Deno.stderr.writeSync(new TextEncoder().encode(text)));
  bindings.setLoggerLogLevel(2); // errors
  bindings.loadBackends(folder);
  await bindings.init();
  return bindings;
}

function createSide(bindings: Bindings): Side {
  let context: LlamaContext | undefined;
  let sampler: unknown;
  let streams = 0;
  return {
    async load(options) {
      streams = options.streams;
      const model = new bindings.AddonModel(options.path, {
        addonExports: bindings,
        gpuLayers: 0,
        useMmap: true,
      });
      if (!await model.init()) throw new Error("llama.cpp did not load the file");
      context = new bindings.AddonContext(model, {
        contextSize: streams * options.context,
        batchSize: options.context,
        sequences: streams,
        flashAttention: "auto",
        threads: options.threads,
      });
      if (!await context.init()) throw new Error("llama.cpp made no context");
      const greedy = new bindings.AddonSampler(model);
      greedy.applyConfig({ temperature: 0 });
      sampler = greedy;
    },
    async step(position, tokens) {
      const { length } = tokens[0]!;
      context!.initBatch(tokens.length * length);
      const last = Uint32Array.of(length - 1);
      const logits = tokens.map((own, stream) => context!.addToBatch(stream, position, own, last));
      await context!.decodeBatch();
      const best: number[] = [];
      for (const [index] of logits) best.push(await context!.sampleToken(index!, sampler));
      return best;
    },
    reset() {
      for (let stream = 0; stream < streams; stream++) context?.disposeSequence(stream);
    },
  };
}

await serve(createSide(await loadBindings()));
