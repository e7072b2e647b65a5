/** Engine: a LanguageModel with every capability, on top of an executor. */
import { ClosedError, ContextLengthError } from "../errors.ts";
import { PageStore } from "../kv/pages.ts";
import { getPolicy } from "../kv/policies/mod.ts";
import type { KvPolicy } from "../kv/policy.ts";
import { PrefixCache } from "../kv/prefix_cache.ts";
import { separatorsOf } from "../kv/separators.ts";
import { SequenceKv } from "../kv/sequence_kv.ts";
import { requireSupport } from "../kv/support.ts";
import type {
  Capability,
  KvChoice,
  LanguageModel,
  Prompt,
  RequestScope,
  Session,
  SessionOptions,
  Vocab,
} from "../model.ts";
import { encodePrompt } from "../prompt.ts";
import type { Executor } from "./executor.ts";
import { requireTokens } from "./queries.ts";
import { RecordLedger } from "./records.ts";
import { modelOf, ScopeState } from "./scope.ts";
import { Sequence } from "./sequence.ts";
import { EngineSession, type SessionHost } from "./session.ts";
import { smallSteps } from "./step_size.ts";
import { type NextTurn, StepLoop } from "./step_loop.ts";

/** How much a step computes and how much is remembered. */
export interface EngineLimits {
  /** Most tokens of one step, over all rows. @default what suits the executor's backend, or 64 */
  readonly stepTokens?: number;
  /** Most tokens of one row and step. @default what suits the executor's backend, or 32 */
  readonly chunkTokens?: number;
  /** Most pages the prefix cache holds; 0 = no prefix cache. @default all */
  readonly cachedPages?: number;
}

/** What an engine is made of. */
export interface EngineOptions {
  readonly id: string;
  readonly vocab: Vocab;
  /** Becomes the engine's: closing the engine closes it. */
  readonly executor: Executor;
  readonly limits?: EngineLimits;
  /** Where KV policies are found by name. @default the registry */
  readonly findPolicy?: (name: string) => KvPolicy;
  /** Told of each page that returns to the pool, so that tests can poison it. */
  readonly onPageFree?: (page: number, parts: number) => void;
  /** Ids of tokens that end a segment of text, for KV policies. @default found in the vocabulary */
  readonly separators?: ReadonlySet<number>;
  /** When steps run. @default the next turn of the event loop */
  readonly nextTurn?: NextTurn;
}

/** What an engine is doing and has done. */
export interface EngineStats {
  /** Steps, rows and tokens executed. */
  readonly steps: number;
  readonly rows: number;
  readonly tokens: number;
  readonly openSessions: number;
  readonly waitingAsks: number;
  /** How often a sequence lost its pages to another. */
  readonly preemptions: number;
  /**
   * Pages in the pool; held by nobody; in the prefix cache; free pieces of pages that are partly held,
   * added up.
   */
  readonly pages: {
    readonly total: number;
    readonly free: number;
    readonly cached: number;
    readonly fragments: number;
  };
  readonly prefix: { readonly lookups: number; readonly hits: number; readonly hitTokens: number };
}

/** A model of this process. */
export interface Engine extends LanguageModel, AsyncDisposable {
  readonly vocab: Vocab;
  readonly stats: () => EngineStats;
  /** Compares page counts with page tables. @throws {Error} if a page is lost or counted wrongly */
  checkPages(): void;
}

const capabilities: ReadonlySet<Capability> = new Set<Capability>([
  "generate",
  "sample",
  "edit",
  "topk",
  "score",
  "logits",
  "entropy",
  "hidden",
  "tree",
]);

/** @throws {RangeError} if the limits do not allow a single token per step */
export function createEngine(options: EngineOptions): Engine {
  return new EngineModel(options);
}

class EngineModel implements Engine {
  readonly id: string;
  readonly vocab: Vocab;
  readonly contextLength: number;
  readonly capabilities = capabilities;
  readonly #options: EngineOptions;
  readonly #store: PageStore;
  readonly #cache: PrefixCache;
  readonly #records: RecordLedger;
  readonly #loop: StepLoop;
  readonly #host: SessionHost;
  readonly #scopes = new Set<ScopeState>();
  readonly #byScope = new WeakMap<RequestScope, ScopeState>();
  #known: ReadonlySet<number> | undefined;
  #nextScope = 0;
  #openSessions = 0;
  #isClosed = false;

  constructor(options: EngineOptions) {
    const { id, vocab, executor, limits = {} } = options;
    const { info } = executor;
    const { stepTokens, chunkTokens, cachedPages = info.pages } = {
      ...info.steps ?? smallSteps,
      ...limits,
    };
    if (!(stepTokens >= 1) || !(chunkTokens >= 1)) {
      throw new RangeError(`Cannot compute ${chunkTokens} tokens per row, ${stepTokens} per step`);
    }
    this.id = id;
    this.vocab = vocab;
    this.contextLength = info.contextLength;
    this.#options = options;
    this.#store = new PageStore(info.pages, info.kv.pageSize, options.onPageFree);
    this.#cache = new PrefixCache(this.#store, cachedPages);
    this.#records = new RecordLedger(info.records);
    this.#loop = new StepLoop({
      executor,
      store: this.#store,
      cache: this.#cache,
      limits: { stepTokens, chunkTokens },
      sequences: () => this.#sequences(),
      ...options.nextTurn === undefined ? {} : { nextTurn: options.nextTurn },
    });
    this.#host = {
      info,
      loop: this.#loop,
      stopTokens: vocab.stopTokens,
      opened: (session, scope) => this.#opened(session, scope),
      closed: (session, scope) => this.#closed(session, scope),
    };
  }

  readonly checkKv = (choice: KvChoice): KvChoice => {
    const { findPolicy = getPolicy, executor: { info } } = this.#options;
    const policy = findPolicy(choice.name);
    const params = policy.params.parse(choice.params);
    requireSupport(policy, params, info);
    const model = modelOf(info, this.#separators());
    policy.check?.(params, model);
    return { name: policy.name, params: { ...Object(policy.complete?.(params, model) ?? params) } };
  };

  readonly contextUnder = (choice: KvChoice): number => {
    const policy = (this.#options.findPolicy ?? getPolicy)(choice.name);
    const params = policy.params.parse(choice.params);
    return policy.positions?.(params) === "cache" ? Infinity : this.contextLength;
  };

  session(prompt: Prompt, options: SessionOptions = {}): Session {
    if (this.#isClosed) throw new ClosedError("The engine was closed");
    const { rollback = 0, chat, scope } = options;
    scope?.signal.throwIfAborted();
    if (!Number.isInteger(rollback) || rollback < 0) {
      throw new RangeError(`A rollback window cannot be ${rollback} tokens`);
    }
    const tokens = encodePrompt(prompt, this.vocab, {
      model: this.id,
      ...chat === undefined ? {} : { chat },
    });
    requireTokens(tokens, this.#host.info.vocab);
    const state = this.#scopeState(scope);
    if (tokens.length > this.contextLength && !state.turns) {
      throw new ContextLengthError(tokens.length, 0, this.contextLength);
    }
    if (!state.isBilled) state.meter.promptTokens += tokens.length;
    state.isBilled = true;
    const sequence = new Sequence(state, {
      tokens: [...tokens],
      promptLength: tokens.length,
      rollback,
      kv: new SequenceKv(this.#store, state.initState(), state.shape),
    });
    return new EngineSession(this.#host, sequence);
  }

  readonly stats = (): EngineStats => ({
    ...this.#loop.counts,
    openSessions: this.#openSessions,
    waitingAsks: this.#loop.waiting,
    pages: {
      total: this.#store.total,
      free: this.#store.free,
      cached: this.#cache.pages,
      fragments: this.#store.fragments,
    },
    prefix: { ...this.#loop.prefix },
  });

  checkPages(): void {
    const all = [...this.#sequences()].map(({ kv }) => ({
      parts: kv.shape.groups,
      pages: kv.held(),
    }));
    for (const { page, parts } of this.#loop.retired) all.push({ parts, pages: just(page) });
    const whole = all.filter(({ parts }) => parts === 1).map(({ pages }) => pages);
    this.#store.check([...whole, this.#cache.held()], all.filter(({ parts }) => parts > 1));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const reason = new ClosedError("The engine was closed");
    for (const scope of [...this.#scopes]) scope.close(reason);
    await this.#loop.close(reason);
    this.#cache.clear();
    await this.#options.executor[Symbol.asyncDispose]();
  }

  *#sequences(): Generator<Sequence> {
    for (const scope of this.#scopes) yield* scope.sequences;
  }

  #scopeState(scope: RequestScope | undefined): ScopeState {
    const known = scope && this.#byScope.get(scope);
    if (known !== undefined) return known;
    const { findPolicy = getPolicy, executor } = this.#options;
    const state = new ScopeState(this.#nextScope++, scope, {
      info: executor.info,
      separators: () => this.#separators(),
      findPolicy,
      records: this.#records,
      onIdle: (idle) => this.#scopes.delete(idle),
    });
    if (scope !== undefined) this.#byScope.set(scope, state);
    return state;
  }

  /** Looked for when a policy first needs them: large vocabularies take a while. */
  #separators(): ReadonlySet<number> {
    return this.#known ??= this.#options.separators ?? separatorsOf(this.vocab);
  }

  #opened(session: EngineSession, scope: ScopeState): void {
    this.#openSessions++;
    this.#scopes.add(scope);
    if (scope.sessions.size === 0) {
      scope.signal?.addEventListener("abort", scope.onAbort, { once: true });
    }
    scope.sessions.add(session);
  }

  #closed(session: EngineSession, scope: ScopeState): void {
    this.#openSessions--;
    scope.sessions.delete(session);
    if (scope.sessions.size === 0) scope.signal?.removeEventListener("abort", scope.onAbort);
    scope.checkIdle();
  }
}

function* just(page: number): Generator<number> {
  yield page;
}
