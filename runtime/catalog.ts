/** The models this gateway serves, by public id. */
import { NotFoundError } from "./errors.ts";
import type { LanguageModel } from "./model.ts";

/** What listings say about a model. */
export interface ModelInfo {
  readonly id: string;
  /** Unix seconds. */
  readonly created: number;
  readonly ownedBy: string;
  /** Changes when weights, format or engine build change. */
  readonly fingerprint: string;
  /** "cpu", "webgpu", ..., or the logical name of an upstream. */
  readonly servedBy: string;
  readonly contextLength: number;
  /** Number of weights, where known. */
  readonly parameters?: number;
  /** A model with the same vocabulary that may propose tokens for this one. */
  readonly draft?: string;
  /** Only of models that are computed elsewhere. */
  readonly upstream?: UpstreamStatus;
}

/** What listings say about an upstream. No addresses, no keys. */
export interface UpstreamStatus {
  readonly engine: string;
  /** Which route carries completions: "chat" or "completions". */
  readonly kind: string;
  /** Whether a server was asked what it can do, and answered. */
  readonly probed: boolean;
  readonly n: "native" | "emulated";
  /** Most alternatives per token; null = no log-probabilities. */
  readonly "top_logprobs": number | null;
  /** Sampling fields beyond the API's own. */
  readonly sampling: readonly string[];
  /** Constraints it honours itself. */
  readonly formats: readonly string[];
  readonly replicas: readonly {
    readonly running: number;
    readonly circuit: "closed" | "open" | "half_open";
    readonly healthy: boolean;
  }[];
}

/** One served model. */
export interface CatalogEntry {
  readonly info: ModelInfo;
  readonly model: LanguageModel;
}

/** Looks models up by id. */
export interface Catalog {
  list(): readonly ModelInfo[];
  /** @throws {NotFoundError} */
  get(id: string): CatalogEntry;
}

/**
 * A catalog of these entries, or of those there are whenever it is asked. The first one is the
 * default.
 */
export function createCatalog(
  entries: readonly CatalogEntry[] | (() => readonly CatalogEntry[]),
): Catalog {
  const current = typeof entries === "function" ? entries : () => entries;
  return {
    list: () => current().map((entry) => entry.info),
    get(id) {
      const entry = current().find(({ info }) => info.id === id);
      if (!entry) throw new NotFoundError("model", id, current().map(({ info }) => info.id));
      return entry;
    },
  };
}
