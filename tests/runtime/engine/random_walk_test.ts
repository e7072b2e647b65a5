/**
 * The whole engine against the simplest model of it: sessions are arrays of tokens, and logits are a
 * function of them. Any interleaving of forks, appends, truncations, asks, aborts and closing must
 * give the same, in any pool that can hold the longest sequence.
 */
import { assertEquals } from "@std/assert";
import fc from "fast-check";
import type { EngineLimits } from "../../../runtime/engine/engine.ts";
import { createRng, type Rng, seedFrom, type Session } from "../../../runtime/mod.ts";
import { fakeLogits } from "../../fakes/fake_executor.ts";
import { fakeEngine, testScope } from "./_fixtures.ts";

interface Live {
  readonly session: Session;
  tokens: number[];
  readonly abort: AbortController;
}

const vocab = 24, alphabet = 3; // few different tokens, so that sequences meet again

class Walk {
  readonly live: Live[] = [];
  readonly pending: Promise<void>[] = [];
  asked = 0;
  constructor(
    readonly rng: Rng,
    readonly open: (tokens: number[], abort: AbortController) => Session,
  ) {}

  int(below: number): number {
    return Math.floor(this.rng.next() * below);
  }

  tokens(count: number): number[] {
    return Array.from({ length: count }, () => this.int(alphabet));
  }

  pick(): Live | undefined {
    return this.live[this.int(this.live.length)];
  }

  act(): void {
    const action = this.int(10), one = this.pick();
    if (one === undefined || action === 0) return this.openOne();
    if (action === 1) {
      this.live.push({ ...one, session: one.session.fork(), tokens: [...one.tokens] });
    } else if (action === 2) this.truncate(one);
    else if (action === 3 && this.live.length > 3) this.close(one);
    else if (action === 4 && this.int(6) === 0) this.abortAll(one);
    else if (action < 7) this.append(one);
    else this.ask(one);
  }

  openOne(): void {
    const abort = new AbortController(), tokens = this.tokens(1 + this.int(20));
    this.live.push({ session: this.open(tokens, abort), tokens, abort });
  }

  append(one: Live): void {
    const more = this.tokens(this.int(4));
    if (one.tokens.length + more.length > 40) return;
    one.session.append(more);
    one.tokens = [...one.tokens, ...more];
  }

  truncate(one: Live): void {
    const least = Math.max(1, one.session.committed);
    if (least > one.tokens.length) return;
    const length = least + this.int(one.tokens.length - least + 1);
    one.session.truncate(length);
    one.tokens = one.tokens.slice(0, length);
  }

  close(one: Live): void {
    one.session[Symbol.dispose]();
    this.live.splice(this.live.indexOf(one), 1);
  }

  /** Asks of the family reject; their checks expect that. */
  abortAll(one: Live): void {
    one.abort.abort("aborted");
    for (const other of this.live.filter(({ abort }) => abort === one.abort)) this.close(other);
  }

  ask({ session, tokens, abort }: Live): void {
    const last = 1 + this.int(Math.min(5, tokens.length));
    const expected = Array.from(
      { length: last },
      (_, i) => fakeLogits(tokens.slice(0, tokens.length - last + 1 + i), { vocab }),
    );
    const check = session.logits({ last }).then(
      (rows) => {
        assertEquals(rows, expected);
        this.asked++;
      },
      (error) => {
        if (error !== abort.signal.reason && error?.name !== "ClosedError") throw error;
      },
    );
    this.pending.push(check);
  }
}

async function walk(seed: number, pages: number, pageSize: number, limits: EngineLimits) {
  await using setup = fakeEngine({ pages, pageSize, contextLength: 48 }, { limits });
  const { engine } = setup;
  const { walkRng, walkTokens } = { walkRng: createRng(seedFrom(seed)), walkTokens: 12 };
  const salts = ["", "other"];
  const run = new Walk(walkRng, (tokens, abort) =>
    engine.session(tokens, {
      rollback: tokens.length % 4,
      scope: testScope({ signal: abort.signal, salt: salts[tokens.length % 2]! }),
    }));
  for (let turn = 0; turn < walkTokens; turn++) {
    for (let i = 0; i < 12; i++) run.act();
    if (turn % 3 === 0) await Promise.all(run.pending.splice(0));
    else await new Promise<void>((resolve) => setImmediate(resolve));
    engine.checkPages();
  }
  await Promise.all(run.pending);
  for (const one of [...run.live]) run.close(one);
  const { openSessions, waitingAsks, pages: { free, cached } } = engine.stats();
  assertEquals({ openSessions, waitingAsks }, { openSessions: 0, waitingAsks: 0 });
  assertEquals(free + cached, pages);
  return run.asked;
}

Deno.test("engine equals tokens in, logits out, under random operations", async () => {
  let asked = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: 1e9 }),
      fc.constantFrom([12, 4], [30, 4], [200, 4], [3, 16], [41, 1]),
      fc.constantFrom<EngineLimits>(
        {},
        { stepTokens: 5, chunkTokens: 3 },
        { cachedPages: 0 },
        { cachedPages: 5, stepTokens: 20 },
      ),
      async (seed, [pages, pageSize], limits) => {
        asked += await walk(seed, pages!, pageSize!, limits);
      },
    ),
    { numRuns: 60, seed: 1 },
  );
  if (asked < 1000) throw new Error(`only ${asked} asks were compared`);
});
