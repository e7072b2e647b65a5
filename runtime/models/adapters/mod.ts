/** Adapters by method. A new one is a file and a line in {@link methods}. */
import type { Backend } from "../../backend/backend.ts";
import { FormatError } from "../../errors.ts";
import type { Safetensors } from "../../formats/safetensors.ts";
import type { KvAdapterData } from "../../kv/policy.ts";
import type { KvAdapter } from "../adapter.ts";
import type { ModelConfig } from "../config.ts";
import { type AdapterLoader, createAdapterLoader } from "./adapter_file.ts";
import { natsRouter } from "./nats.ts";
import { holdsScoreHeads, scoreHeads } from "./score_heads.ts";
import { tokenButler } from "./tokenbutler.ts";

/** `method` of the metadata -> what runs inside the forward pass. */
const methods: Readonly<Record<string, (load: AdapterLoader) => KvAdapter>> = {
  "nats": natsRouter,
  "tokenbutler": tokenButler,
  "score-heads": scoreHeads,
};

/** Methods whose few weights the policy itself computes with. */
const hostMethods: ReadonlySet<string> = new Set(["attention-predictor"]);

/** A loaded file. */
export interface LoadedAdapter {
  readonly name: string;
  /** What the policy may know of it. */
  readonly data: KvAdapterData;
  /** Undefined for methods that compute outside of the forward pass. */
  readonly adapter: KvAdapter | undefined;
}

/**
 * Loads learned weights of a KV policy for a model. Files of score heads as published carry no
 * metadata; they are known by their tensors.
 *
 * @throws {FormatError} if the method is unknown, or shapes do not fit the model
 */
export function loadAdapter(
  file: Safetensors,
  config: ModelConfig,
  backend: Backend,
): LoadedAdapter {
  const name = file.metadata.get("method") ??
    (holdsScoreHeads(file) ? "score-heads" : undefined);
  if (name === undefined) {
    throw new FormatError(
      'metadata has no method, and there are no score heads ("layers.0.weight", "layers.0.0.weight")',
      { source: "KV adapter" },
    );
  }
  const metadata = Object.fromEntries(file.metadata);
  if (hostMethods.has(name)) {
    const tensors = Object.fromEntries([...file.names()].map((key) => [key, file.f32(key)]));
    return { name, data: { metadata, tensors }, adapter: undefined };
  }
  const build = Object.hasOwn(methods, name) ? methods[name] : undefined;
  if (build === undefined) {
    const known = [...Object.keys(methods), ...hostMethods].join(", ");
    throw new FormatError(`method ${JSON.stringify(name)} is none of ${known}`, {
      source: "KV adapter",
    });
  }
  const load = createAdapterLoader(file, config, backend);
  try {
    return { name, data: { metadata, tensors: {} }, adapter: build(load) };
  } catch (error) {
    load.dispose();
    throw error;
  }
}
