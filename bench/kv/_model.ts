/** The embedded model in this thread, with control policies beside the real ones. */
import { fileURLToPath } from "node:url";
import { createEngine, type Engine } from "../../runtime/engine/engine.ts";
import { createModelExecutor } from "../../runtime/engine/model_executor.ts";
import { listAdapterFiles, openModelFiles } from "../../runtime/model_files.ts";
import {
  createMeter,
  greedySampling,
  type KvChoice,
  type RequestScope,
  type Session,
} from "../../runtime/mod.ts";
import { findPolicy } from "./_controls.ts";

/** What an engine for measuring may have besides. */
export interface OpenOptions {
  /** A model folder. @default the embedded model's */
  readonly model?: string;
  /** Files of KV adapters. @default those in the model's folder */
  readonly adapters?: readonly string[];
}

/** An engine for measuring. @param pages of the KV pool, 16 tokens each */
export async function openModel(
  backend: string,
  pages: number,
  { model, adapters }: OpenOptions = {},
): Promise<Engine> {
  const path = model ?? fileURLToPath(new URL("../../models/decant-tiny", import.meta.url));
  const { config, vocab, weights } = await openModelFiles(path);
  weights[Symbol.dispose]();
  const executor = await createModelExecutor({
    path,
    backend,
    contextLength: config.contextLength,
    vocab: vocab.size,
    pageSize: 16,
    pages,
    adapterFiles: adapters ?? await listAdapterFiles(path),
  });
  return createEngine({ id: "decant-tiny", vocab, executor, findPolicy });
}

/** A request of its own under a policy. */
export function scopeOf(kv: KvChoice): RequestScope {
  const { signal } = new AbortController();
  return { id: "bench", signal, meter: createMeter(), cacheSalt: "", kv };
}

/** What the model answers, free-running and greedy, up to `most` tokens. */
export async function complete(engine: Engine, session: Session, most: number): Promise<string> {
  const tokens: number[] = [];
  const options = { sampling: greedySampling, maxTokens: most };
  for await (const { token } of session.generate(options)) {
    if (!engine.vocab.stopTokens.has(token)) tokens.push(token);
  }
  return engine.vocab.decode(tokens);
}
