/**
 * StepLoop: when a step runs, and what becomes of its results.
 *
 * Asks are collected until the next turn of the event loop, a macrotask: whatever the promises of
 * the last step set off, however deep, has asked by then.
 */
import { ClosedError, DeviceLostError, EngineError, OutOfPagesError } from "../errors.ts";
import type { RetiredPage } from "../kv/edits.ts";
import type { PageStore } from "../kv/pages.ts";
import type { PrefixCache } from "../kv/prefix_cache.ts";
import { Ask, type AskSpec } from "./ask.ts";
import type { Answer, Batch, Executor } from "./executor.ts";
import { type Group, groupAsks } from "./groups.ts";
import { layOut, type PlannedRow, workOf } from "./layout.ts";
import { plan, type PlanLimits, type Work } from "./plan.ts";
import { makeRoom, reclaim } from "./reclaim.ts";
import { Settler } from "./settle.ts";
import type { Sequence } from "./sequence.ts";

/** What the loop works with. */
export interface StepLoopOptions {
  readonly executor: Executor;
  readonly store: PageStore;
  readonly cache: PrefixCache;
  readonly limits: Pick<PlanLimits, "stepTokens" | "chunkTokens">;
  /** Every sequence there is, for taking pages away. */
  readonly sequences: () => Iterable<Sequence>;
  /** Runs a step in a later turn of the event loop. @default setImmediate */
  readonly nextTurn?: NextTurn;
}

/** Calls `run` once in a later macrotask, when all promises that can settle have settled. */
export type NextTurn = (run: () => void) => void;

/** See file comment. */
export class StepLoop {
  readonly counts = { steps: 0, rows: 0, tokens: 0, preemptions: 0 };
  readonly prefix = { lookups: 0, hits: 0, hitTokens: 0 };
  readonly #options: StepLoopOptions;
  readonly #settler: Settler;
  #asks: Ask[] = [];
  #order = 0;
  #isArmed = false;
  #isRunning = false;
  #running: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(options: StepLoopOptions) {
    this.#options = options;
    this.#settler = new Settler({ ...options, info: options.executor.info });
  }

  /** Pages in no table that wait for the next batch. */
  get retired(): readonly RetiredPage[] {
    return this.#settler.retired;
  }

  /** Asks not yet answered. */
  get waiting(): number {
    return this.#asks.reduce((count, ask) => count + (ask.isSettled ? 0 : 1), 0);
  }

  /** Resolves when steps have computed the answer. */
  ask(owner: object, sequence: Sequence, spec: AskSpec): Promise<Answer> {
    if (this.#isClosed) return Promise.reject(new ClosedError("The engine was closed"));
    return new Promise((resolve, reject) => {
      this.#asks.push(new Ask(this.#order++, owner, sequence, spec, resolve, reject));
      this.#arm();
    });
  }

  /** Rejects the waiting asks of `owner` and takes them out of the queue. */
  reject(owner: object, reason: unknown): void {
    for (const ask of this.#asks) if (ask.owner === owner) ask.fail(reason);
  }

  /** Rejects everything and waits for the step that is running. */
  async close(reason: unknown): Promise<void> {
    this.#isClosed = true;
    for (const ask of this.#asks) ask.fail(reason);
    await this.#running;
  }

  #arm(): void {
    if (this.#isArmed || this.#isRunning) return;
    this.#isArmed = true;
    const { nextTurn = setImmediate } = this.#options;
    nextTurn(() => {
      this.#isArmed = false;
      this.#running = this.#step();
    });
  }

  async #step(): Promise<void> {
    this.#isRunning = true;
    let batch: Batch | undefined;
    const rows: PlannedRow[] = [];
    try {
      batch = this.#prepare(rows);
      if (batch !== undefined) {
        const { answers } = await this.#options.executor.execute(batch);
        if (answers.length !== rows.length) {
          throw new EngineError(`Step ${batch.step} has ${answers.length} answers`);
        }
        this.#settler.succeed(rows, answers);
      }
    } catch (error) {
      // A batch fails the asks it took; without one, there is no telling whose fault it is.
      const asks = batch === undefined ? this.#asks : rows.flatMap(({ group }) => group.asks);
      this.#settler.fail(rows, error instanceof DeviceLostError);
      for (const ask of asks) ask.fail(error);
    } finally {
      this.#isRunning = false;
      this.#asks = this.#asks.filter((ask) => !ask.isSettled);
      if ((this.#asks.length > 0 || this.#settler.edits.length > 0) && !this.#isClosed) this.#arm();
    }
  }

  /** @param rows takes what is laid out, also if that fails half-way */
  #prepare(rows: PlannedRow[]): Batch | undefined {
    const { store } = this.#options;
    const edits = this.#settler.takeEdits();
    const { groups, takes } = this.#plan();
    if (takes.length === 0 && edits.length === 0) return undefined;
    const allocate = (parts: number) => {
      const page = store.allocate(parts);
      if (page === undefined) throw new EngineError("The plan used more pages than there are");
      return page;
    };
    // Before any row is laid out, so that no page is freed that a copy still reads.
    for (const { work } of takes) groups[work]!.leader.kv.truncate(groups[work]!.start);
    for (const take of takes) {
      rows.push(layOut(groups[take.work]!, take.tokens, take.final, edits, allocate));
    }
    this.#count(rows);
    return { step: this.counts.steps, edits, rows: rows.map(({ row }) => row) };
  }

  /** Plans until the oldest ask goes, taking pages away from others or giving it up. */
  #plan() {
    const { store, cache, limits } = this.#options;
    // Sharing is looked for once: what was just taken away must not come back by it.
    for (let round = 0;; round++) {
      const asks = this.#asks.filter((ask) => !ask.isSettled);
      if (asks.length === 0) return { groups: [], takes: [] };
      const groups = groupAsks(
        asks,
        round === 0 ? { cache, counts: this.prefix } : undefined,
      );
      let works = withSpare(groups.map(workOf), store);
      const room = { ...this.#options, groups, sequences: this.#options.sequences() };
      const idle = makeRoom(works, room);
      this.counts.preemptions += idle;
      if (idle > 0) works = withSpare(groups.map(workOf), store); // what they shared may be writable now
      const { takes, missing } = plan(works, {
        ...limits,
        pages: store.free,
        pageSize: store.pageSize,
      });
      if (missing === 0) return { groups, takes };
      const preempted = reclaim(missing, { ...room, sequences: this.#options.sequences() });
      if (preempted !== undefined) this.counts.preemptions += preempted;
      else if (this.#settler.retired.length > 0) return { groups: [], takes: [] }; // free after this
      else giveUp(groups[0]!, missing, store);
    }
  }

  #count(rows: readonly PlannedRow[]): void {
    const step = ++this.counts.steps;
    this.counts.rows += rows.length;
    for (const { row, group } of rows) {
      this.counts.tokens += row.tokens.length;
      group.leader.lastStep = step;
      for (const member of group.members) member.lastStep = step;
    }
  }
}

/** Free pieces go to the oldest work that can use them; everyone else takes whole pages apart. */
function withSpare(works: readonly Work[], store: PageStore): Work[] {
  const given = new Set<number>();
  return works.map((work) => {
    const parts = work.ragged?.slots.length;
    if (parts === undefined || given.has(parts)) return work;
    given.add(parts);
    return { ...work, ragged: { ...work.ragged!, spare: store.spare(parts) } };
  });
}

/** The sequence is alone and still does not fit. */
function giveUp({ leader, asks }: Group, missing: number, store: PageStore): void {
  const { heldCount, shape } = leader.kv;
  const needed = Math.ceil(heldCount / shape.groups) + missing;
  for (const ask of asks) ask.fail(new OutOfPagesError(needed, store.total));
}
