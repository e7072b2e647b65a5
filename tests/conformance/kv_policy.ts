/**
 * Laws of every KV policy: what the cache holds is a function of tokens, committed length, policy and
 * rollback window; not of forks, truncations, chunks or neighbours.
 *
 * They run on an executor whose slots know which token and position they hold, so that logits tell
 * exactly what was attended to.
 */
import { assert, assertEquals } from "@std/assert";
import { createEngine, type Engine, type EngineLimits } from "../../runtime/engine/engine.ts";
import type { KvPolicy } from "../../runtime/kv/policy.ts";
import {
  createMeter,
  createRng,
  type KvChoice,
  type RequestScope,
  type Rng,
  seedFrom,
  type Session,
} from "../../runtime/mod.ts";
import { createFakeExecutor, type FakeExecutorOptions } from "../fakes/fake_executor.ts";
import { letterVocab } from "../fakes/mod.ts";

const pages = 900, pageSize = 4, alphabet = 3;

/** What a policy is run with. */
export interface KvPolicyLawOptions {
  /** @default none: the policy's defaults */
  readonly params?: Readonly<Record<string, unknown>>;
  /**
   * Whether tokens see the same whenever they are computed, so that answers equal a replay's after every
   * fork and truncation. @default only lossless policies
   */
  readonly isExact?: boolean;
  /** Pages of a pool that is too small for several sequences. @default 20 */
  readonly tightPages?: number;
}

/** Registers the laws as tests of `policy`. */
export function testKvPolicy(policy: KvPolicy, options: KvPolicyLawOptions = {}): void {
  const choice: KvChoice = { name: policy.name, params: options.params ?? {} };
  const { isExact = policy.lossless } = options;
  // Many tables take longer.
  const [walks, scripts] = policy.granularity === "sequence" ? [9, 5] : [4, 2];
  const label = `KV policy ${policy.name} ${JSON.stringify(choice.params)}`;

  Deno.test(`${label}: equals a replay from scratch under random operations`, async () => {
    let compared = 0;
    for (let seed = 0; seed < walks; seed++) compared += await walk(policy, choice, seed, isExact);
    assert(compared > 25 * walks, `only ${compared} comparisons`);
  });

  Deno.test(`${label}: does not depend on chunks or neighbours`, async () => {
    const rng = createRng(seedFrom(5));
    for (let round = 0; round < 6; round += policy.granularity === "sequence" ? 1 : 2) {
      const prompt = tokens(rng, 1 + round * 9), rest = tokens(rng, 30);
      const answers: Float32Array[][] = [];
      for (const limits of [{}, { stepTokens: 3, chunkTokens: 2 }, { stepTokens: 40 }]) {
        await using engine = open(policy, limits);
        const crowd = Array.from({ length: round }, () => engine.session(tokens(rng, 25)));
        using session = engine.session(prompt, { rollback: round, scope: scopeOf(choice) });
        const rows: Float32Array[] = [];
        for (const token of rest) {
          session.append([token]);
          const [row] = await Promise.all([
            session.logits(),
            ...crowd.map((other) => other.topk(1)),
          ]);
          rows.push(row[0]!);
        }
        answers.push(rows);
      }
      for (const rows of answers) assertEquals(rows, answers[0]);
    }
  });

  Deno.test(`${label}: a small pool and small steps change nothing`, async () => {
    let preemptions = 0;
    for (let seed = 0; seed < scripts; seed++) {
      const roomy = await script(policy, choice, seed, { pages }, {});
      const tight = await script(policy, choice, seed, { pages: options.tightPages ?? 20 }, {
        stepTokens: 9,
        chunkTokens: 4,
      });
      assertEquals(tight.rows, roomy.rows);
      preemptions += tight.preemptions - roomy.preemptions;
    }
    assert(preemptions > 0, "the pool was not small");
  });

  Deno.test(`${label}: asking again gives the same answer`, async () => {
    await using engine = open(policy, {});
    const rng = createRng(seedFrom(6));
    using session = engine.session(tokens(rng, 23), { scope: scopeOf(choice) });
    const first = await session.logits({ last: 20 });
    using fork = session.fork();
    fork.append(tokens(rng, 15));
    await fork.logits();
    assertEquals(await session.logits({ last: 20 }), first);
    assertEquals((await fork.logits({ last: 35 })).slice(0, 20), first);
    assertEquals(await session.logits(), first.slice(-1));
  });

  Deno.test(`${label}: every page comes back`, async () => {
    await using engine = open(policy, {});
    const rng = createRng(seedFrom(7));
    for (let i = 0; i < 40; i++) {
      const scope = scopeOf(choice);
      using session = engine.session(tokens(rng, 1 + i), { scope, rollback: i % 5 });
      using fork = session.fork();
      fork.append(tokens(rng, 9));
      await Promise.all([session.logits(), fork.logits()]);
    }
    // The last eviction's copies may still wait for a batch.
    await new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)));
    engine.checkPages();
    const { free, cached } = engine.stats().pages;
    assertEquals(free + cached, pages);
  });
}

/** @param executorOptions by default slots know tokens and positions, not what was seen before */
function open(
  policy: KvPolicy,
  limits: EngineLimits,
  executorOptions: Partial<FakeExecutorOptions> = {},
): Engine {
  const vocab = letterVocab();
  const executor = createFakeExecutor({
    vocab: vocab.size,
    pages,
    pageSize,
    // Under eviction, what a tentative token saw when it was computed depends on when that was.
    deep: policy.lossless,
    adapters: {
      nats: { width: 3, metadata: { window: "6" } },
      tokenbutler: { width: 1 },
      "score-heads": { width: 1 },
    },
    ...executorOptions,
  });
  const findPolicy = () => policy;
  const onPageFree = (page: number, parts: number) => executor.poison(page, parts);
  const separators = new Set([0]);
  return createEngine({ id: "kv", vocab, executor, limits, findPolicy, onPageFree, separators });
}

function scopeOf(kv: KvChoice): RequestScope {
  const { signal } = new AbortController();
  return { id: "request", signal, meter: createMeter(), cacheSalt: "", kv };
}

function tokens(rng: Rng, count: number): number[] {
  return Array.from({ length: count }, () => Math.floor(rng.next() * alphabet));
}

interface Live {
  readonly session: Session;
  readonly prompt: readonly number[];
}

/** The same random operations in different engines, with every answer. */
async function script(
  policy: KvPolicy,
  choice: KvChoice,
  seed: number,
  executorOptions: Partial<FakeExecutorOptions>,
  limits: EngineLimits,
): Promise<{ rows: readonly (readonly Float32Array[])[]; preemptions: number }> {
  await using engine = open(policy, limits, { ...executorOptions, deep: true });
  const rng = createRng(seedFrom(seed)), int = (below: number) => Math.floor(rng.next() * below);
  const start = () =>
    engine.session(tokens(rng, 1 + int(18)), { rollback: int(5), scope: scopeOf(choice) });
  const live: Session[] = [start(), start()];
  const rows: (readonly Float32Array[])[] = [];
  for (let turn = 0; turn < 50; turn++) {
    const i = int(live.length), session = live[i]!;
    const action = int(6);
    if (action === 0 && live.length < 8) live.push(session.fork());
    else if (action === 1 && live.length < 8) live.push(start());
    else if (action === 2) {
      const least = Math.max(1, session.committed);
      session.truncate(Math.min(session.length, least + int(session.length - least + 1)));
    } else if (session.length < 40) session.append(tokens(rng, int(6)));
    else live.splice(i, 1)[0]![Symbol.dispose]();
    const asked = live.filter(() => int(2) === 0);
    rows.push(
      ...await Promise.all(
        asked.map((one) => one.logits({ last: 1 + int(Math.min(3, one.length)) })),
      ),
    );
    engine.checkPages();
  }
  return { rows, preemptions: engine.stats().preemptions };
}

/** @returns how many answers were compared with a replay */
async function walk(
  policy: KvPolicy,
  choice: KvChoice,
  seed: number,
  isExact: boolean,
): Promise<number> {
  const rng = createRng(seedFrom(seed)), int = (below: number) => Math.floor(rng.next() * below);
  const rollback = seed % 6;
  const limits = seed % 2 === 0 ? {} : { stepTokens: 7, chunkTokens: 5 };
  await using engine = open(policy, limits, { deep: isExact });
  const start = () => {
    const prompt = tokens(rng, 1 + int(20));
    return { session: engine.session(prompt, { rollback, scope: scopeOf(choice) }), prompt };
  };
  const live: Live[] = [start()];
  let compared = 0;
  for (let turn = 0; turn < 60; turn++) {
    const one = live[int(live.length)]!, { session } = one;
    const action = int(8);
    if (action === 0) live.push({ ...one, session: session.fork() });
    else if (action === 1) live.push(start());
    else if (action === 2 && live.length > 2) {
      session[Symbol.dispose]();
      live.splice(live.indexOf(one), 1);
    } else if (action === 3) {
      const least = Math.max(1, session.committed);
      session.truncate(Math.min(session.length, least + int(session.length - least + 1)));
    } else session.append(tokens(rng, int(7)));
    if (int(3) === 0) {
      const asked = live.filter(() => int(2) === 0);
      const rows = await Promise.all(asked.map(({ session }) => session.logits()));
      for (const [i, { session, prompt }] of asked.entries()) {
        const expected = await compare(engine, choice, { session, prompt, rollback }, isExact);
        if (expected === undefined) continue;
        compared++;
        if (isExact) assertEquals(rows[i]![0], expected);
      }
    }
    engine.checkPages();
  }
  return compared;
}

/**
 * Compares what a next token would attend to with a session that computes the same tokens in one go.
 *
 * @returns the other session's logits, or undefined if they need not be equal
 */
async function compare(
  engine: Engine,
  choice: KvChoice,
  live: Live & { readonly rollback: number },
  isExact: boolean,
): Promise<Float32Array | undefined> {
  const { session, prompt, rollback } = live;
  const scope = { ...scopeOf(choice), cacheSalt: "replay" };
  using replay = engine.session(prompt, { rollback, scope });
  const kept = prompt.findIndex((token, i) => token !== session.tokens[i]);
  if (kept >= 0) replay.truncate(kept);
  replay.append(session.tokens.slice(replay.length));
  const [row] = await replay.logits();
  // A truncation leaves `committed` further along than a replay gets.
  if (!isExact && session.committed !== replay.committed) return undefined;
  const probes = await Promise.all([session, replay].map(async (either) => {
    using probe = either.fork();
    probe.append([1]);
    return await probe.logits();
  }));
  assertEquals(probes[0], probes[1]);
  return row;
}
