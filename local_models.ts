/** Models that this process computes: loaded at the start, later and on demand, within a budget. */
import {
  type HubOptions,
  type LoadedModel,
  loadModel,
  type ModelPath,
  type ReadbackMode,
  resolveModelPath,
} from "./runtime/local.ts";
import { threadsOfMachine } from "./cores.ts";
import { type Config, ConfigError } from "./runtime/mod.ts";
import type { LogEvent } from "./routes/mod.ts";

/** Folder of the models that ship with the repository. */
export const embeddedRoot = decodeURIComponent(new URL("./models/", import.meta.url).pathname);

/** What loading takes from the outside world. */
export interface LocalHost {
  readonly config: Config;
  /** Name of the backend the models run on. */
  readonly backend: string;
  readonly thread: "worker" | "own";
  /** How results come back from a GPU. */
  readonly readback: ReadbackMode;
  readonly hub: () => HubOptions;
  readonly log: (event: LogEvent) => void;
}

/** A model that was asked for, found or not yet. */
interface Slot {
  /** As the configuration names it. */
  readonly text: string;
  readonly model: LoadedModel;
  /** What it counts for in the budget. */
  readonly bytes: number;
}

/** A request to load that cannot be met within the budget. */
export class MemoryBudgetError extends Error {
  override readonly name = "MemoryBudgetError";
}

/** How long an unloaded model may finish what it runs, in ms. */
const finishMs = 30_000;

/** See file comment. */
export class LocalModels implements AsyncDisposable {
  #host: LocalHost;
  /** How many models compute now, for their threads; see `BackendSettings.running`. */
  readonly #running = typeof SharedArrayBuffer === "undefined"
    ? undefined
    : new SharedArrayBuffer(4);
  #slots: Slot[] = [];
  /** Loads and unloads follow each other: two at once could break the budget together. */
  #tail: Promise<unknown> = Promise.resolve();

  constructor(host: LocalHost) {
    this.#host = host;
  }

  /** Loaded models, in the order they were loaded. */
  get loaded(): readonly LoadedModel[] {
    return this.#slots.map(({ model }) => model);
  }

  /** Names that may be loaded: those of the configuration, whether they are loaded or not. */
  get names(): readonly string[] {
    const { models, on_demand: onDemand } = this.#host.config;
    return [...new Set([...models, ...onDemand])];
  }

  /** Id of a loaded model, by its id or the name it was loaded by. */
  find(name: string): string | undefined {
    return this.#slots.find(({ text, model }) => text === name || model.info.id === name)?.model
      .info.id;
  }

  /** Later loads follow this configuration. */
  configure(config: Config): void {
    this.#host = { ...this.#host, config };
  }

  /**
   * Loads a model; idle ones that were loaded longest ago make room, if there is a budget.
   *
   * @param options.evict whether they may
   * @returns ids of the models that made room
   * @throws {MemoryBudgetError} if it does not fit beside the models that work
   * @throws {ConfigError | FormatError | NotFoundError | HubError} if it cannot be loaded
   */
  load(text: string, { evict = true } = {}): Promise<readonly string[]> {
    return this.#next(async () => {
      if (this.find(text) !== undefined) return [];
      const source = await this.#resolve(text);
      if (this.find(source.id) !== undefined) {
        throw new ConfigError("models", `Invalid "models": "${source.id}" is given twice`);
      }
      const bytes = await this.#bytesOf(source);
      const left = await this.#makeRoom(source.id, bytes, evict);
      const model = await this.#open(source);
      this.#slots.push({ text, model, bytes });
      return left;
    });
  }

  /** Takes a model out; what it runs may finish. @returns false if it is not loaded */
  unload(name: string): Promise<boolean> {
    return this.#next(async () => {
      const id = this.find(name);
      if (id === undefined) return false;
      await this.#close(id);
      return true;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tail.catch(() => {});
    for (const { model } of this.#slots.splice(0)) await model[Symbol.asyncDispose]();
  }

  #next<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#tail.then(work, work);
    this.#tail = done.catch(() => {});
    return done;
  }

  async #resolve(text: string): Promise<ModelPath> {
    const source = await resolveModelPath(text, { embeddedRoot, hub: this.#host.hub });
    if (source.stale) {
      this.#host.log({ level: "warn", event: "hub_unreachable", model: source.id });
    }
    return source;
  }

  /** Weight files and the KV pool. */
  async #bytesOf({ path }: ModelPath): Promise<number> {
    return await weightBytes(path) + this.#host.config.kv_bytes;
  }

  async #makeRoom(id: string, bytes: number, evict: boolean): Promise<readonly string[]> {
    const budget = this.#host.config.memory_bytes ?? Infinity;
    const used = () => this.#slots.reduce((sum, slot) => sum + slot.bytes, 0);
    const idle = this.#slots
      .filter(({ model }) => evict && model.engine.stats().openSessions === 0);
    const free = idle.reduce((sum, slot) => sum + slot.bytes, budget - used());
    if (bytes > free) {
      throw new MemoryBudgetError(
        `Model "${id}" needs ${bytes} bytes, ${Math.max(0, free)} of ${budget} can be had`,
      );
    }
    const left: string[] = [];
    for (const { model } of idle) {
      if (used() + bytes <= budget) break;
      left.push(model.info.id);
      await this.#close(model.info.id);
    }
    return left;
  }

  async #open({ id, path, created, origin }: ModelPath): Promise<LoadedModel> {
    const { config, backend, thread } = this.#host;
    const draft = `${id}-draft`;
    const started = performance.now();
    const model = await loadModel(path, {
      id,
      backend,
      thread,
      context: config.context,
      kvBytes: config.kv_bytes,
      weights: config.weights,
      gpu: {
        memoryBytes: config.gpu_bytes,
        readback: this.#host.readback,
        kv: config.gpu_kv,
      },
      threads: config.threads ?? threadsOfMachine(),
      ...this.#running === undefined ? {} : { running: this.#running },
      created,
      ownedBy: origin === "embedded" ? "decant" : origin,
      draft: this.names.includes(draft) ? draft : undefined,
    });
    const ms = Math.round(performance.now() - started);
    this.#host.log({ level: "info", event: "model_loaded", model: id, ms, ...model.details });
    return model;
  }

  async #close(id: string): Promise<void> {
    const slot = this.#slots.find(({ model }) => model.info.id === id)!;
    this.#slots = this.#slots.filter((one) => one !== slot);
    const { engine } = slot.model;
    const deadline = performance.now() + finishMs;
    while (engine.stats().openSessions > 0 && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await slot.model[Symbol.asyncDispose]();
    this.#host.log({ level: "info", event: "model_unloaded", model: id });
  }
}

/** Bytes of a weight file, or of all in a folder. */
async function weightBytes(path: string): Promise<number> {
  const info = await Deno.stat(path);
  if (info.isFile) return info.size;
  let bytes = 0;
  for await (const { name } of Deno.readDir(path)) {
    if (/\.(safetensors|gguf)$/.test(name)) bytes += (await Deno.stat(`${path}/${name}`)).size;
  }
  return bytes;
}

/** Gauges for /metrics, summed over the models of this process. */
export function sumStats(models: readonly LoadedModel[]): Record<string, number> {
  const sum: Record<string, number> = {};
  const add = (name: string, value: number) => sum[name] = (sum[name] ?? 0) + value;
  for (const { engine } of models) {
    const { steps, rows, tokens, openSessions, waitingAsks, preemptions, pages, prefix } = engine
      .stats();
    add("engine_steps", steps);
    add("engine_rows", rows);
    add("engine_tokens", tokens);
    add("sessions_open", openSessions);
    add("asks_waiting", waitingAsks);
    add("preemptions", preemptions);
    add("kv_pages", pages.total);
    add("kv_pages_free", pages.free);
    add("kv_pages_cached", pages.cached);
    add("prefix_cache_lookups", prefix.lookups);
    add("prefix_cache_hit_tokens", prefix.hitTokens);
  }
  return sum;
}
