/**
 * A model whose requests share weights and nothing else: an engine and a page pool for each.
 *
 * Edge platforms tie every timer to the request that set it and drop it when that request ends, so
 * that a step of several requests would be lost with the one that asked first. The price: requests
 * are not merged into steps, and no computed prefix outlives its request.
 */
import { ClosedError, OutOfPagesError } from "../errors.ts";
import type { LanguageModel, RequestScope, Vocab } from "../model.ts";
import { createEngine, type Engine } from "./engine.ts";
import type { Executor } from "./executor.ts";
import type { NextTurn } from "./step_loop.ts";

/** What an isolated model is made of. */
export interface IsolatedModelOptions {
  readonly id: string;
  readonly vocab: Vocab;
  /** Opens another page pool over the same weights. */
  readonly createExecutor: () => Executor;
  /** Most requests at once; each holds a page pool. Pools are kept for later requests. */
  readonly pools: number;
  /** When steps run; called within the request that asks. @default the next turn of the event loop */
  readonly nextTurn?: NextTurn;
}

/** A model of this thread that can be closed. */
export interface IsolatedModel extends LanguageModel, AsyncDisposable {
  readonly vocab: Vocab;
  /** Page pools that requests hold right now, and that there are. */
  pools(): { readonly busy: number; readonly total: number };
}

interface Pool {
  readonly executor: Executor;
  engine: Engine;
}

/** Opens the first pool at once, so that a model that cannot run is noticed here. */
export function createIsolatedModel(options: IsolatedModelOptions): IsolatedModel {
  const pools: Pool[] = [];
  const byScope = new WeakMap<RequestScope, Engine>();
  let isClosed = false;
  const isIdle = ({ engine }: Pool) => engine.stats().openSessions === 0;

  function newEngine(executor: Executor): Engine {
    const { id, vocab, nextTurn } = options;
    return createEngine({ id, vocab, executor, ...nextTurn === undefined ? {} : { nextTurn } });
  }

  function open(): Pool {
    const executor = options.createExecutor();
    const pool = { executor, engine: newEngine(executor) };
    pools.push(pool);
    return pool;
  }

  /** An engine that no other request has touched. */
  function freshEngine(): Engine {
    const idle = pools.find(isIdle);
    if (idle !== undefined) return idle.engine = newEngine(idle.executor);
    if (pools.length < options.pools) return open().engine;
    const { pages } = pools[0]!.executor.info;
    throw new OutOfPagesError(pages * (pools.length + 1), pages * pools.length);
  }

  function engineFor(scope: RequestScope | undefined): Engine {
    const known = scope && byScope.get(scope);
    // A request may close all its sessions and open another; its pool may have a new owner then.
    if (known && pools.some(({ engine }) => engine === known)) return known;
    const engine = freshEngine();
    if (scope) byScope.set(scope, engine);
    return engine;
  }

  const first = open();
  return {
    id: options.id,
    vocab: options.vocab,
    contextLength: first.engine.contextLength,
    capabilities: first.engine.capabilities,
    session(prompt, sessionOptions) {
      if (isClosed) throw new ClosedError("The model was closed");
      return engineFor(sessionOptions?.scope).session(prompt, sessionOptions);
    },
    pools: () => ({ busy: pools.filter((pool) => !isIdle(pool)).length, total: pools.length }),
    async [Symbol.asyncDispose]() {
      isClosed = true;
      for (const { engine } of pools) await engine[Symbol.asyncDispose]();
    },
  };
}
