/** Dropping slots on real backends: what is left is not touched, and what is dropped returns its pages. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import type { KvEdit, KvGranularity, KvGroup, KvPolicy } from "../../../runtime/kv/policy.ts";
import { createRng, type Rng, seedFrom } from "../../../runtime/mod.ts";
import { tinyConfig } from "../../fakes/hashed_weights.ts";
import { testScope } from "../engine/_fixtures.ts";
import { backends, open, smallPage, tokensOf } from "./_tiny_engine.ts";

/** Vectors by layer, head and position, as they were first seen. */
type Memory = ReadonlyMap<string, Float32Array>;

/** What a consultation left. */
interface Seen {
  /** Slots per group. */
  readonly kept: readonly number[];
  /** How many vectors had been seen before. */
  readonly compared: number;
}

/** One head keeps all, the next its two newest tokens, others what chance says. */
function keptSlots(group: number, { positions }: KvGroup, rng: Rng): Uint32Array {
  const newest = positions.length - 2;
  if (group % 3 === 0) return Uint32Array.from(positions.keys());
  return Uint32Array.from(positions.keys()).filter((slot) =>
    slot >= newest || group % 3 === 2 && rng.next() < 0.95
  );
}

/** Drops slots and compares what is left with what it saw before. */
function witness(granularity: KvGranularity, seen: Seen[]): KvPolicy<Memory, unknown> {
  const rng = createRng(seedFrom(3)), kinds = ["key", "value"] as const;
  return {
    name: "witness",
    source: "test",
    lossless: false,
    granularity,
    signals: kinds,
    params: { parse: (value) => value },
    schedule: () => ({ prompt: 3, decode: 1 }),
    init: () => new Map(),
    fork: (memory) => memory,
    plan(memory, { groups }) {
      const now = new Map<string, Float32Array>();
      let compared = 0;
      for (const group of groups) {
        const [[fromLayer, toLayer], [fromHead, toHead]] = [group.layers, group.kvHeads];
        for (const kind of kinds) {
          for (let layer = fromLayer; layer < toLayer; layer++) {
            for (let head = fromHead; head < toHead; head++) {
              const all = group.signalOf(kind, layer, head), size = tinyConfig.headDim;
              group.positions.forEach((position, slot) => {
                const name = `${kind} ${layer} ${head} ${position}`;
                const vector = all.slice(slot * size, (slot + 1) * size);
                const before = memory.get(name);
                if (before !== undefined) assertEquals(vector, before, name);
                if (before !== undefined) compared++;
                now.set(name, vector);
              });
            }
          }
        }
      }
      const only = groups.length === 1 ? 2 : 0; // one table for all: by chance
      const kept = groups.map((group, g) => keptSlots(g + only, group, rng));
      seen.push({ kept: kept.map(({ length }) => length), compared });
      const edits = kept.map((slots, group): KvEdit => ({ op: "keep", group, slots }));
      return { state: now, edits };
    },
  };
}

for (const [name, create] of Object.entries(backends)) {
  for (const granularity of ["sequence", "layer", "kv-head"] as const) {
    Deno.test(`${name}: K and V of what stays are the same to the bit, and only its pages are held, per ${granularity}`, async () => {
      const seen: Seen[] = [];
      await using engine = open(create, { findPolicy: () => witness(granularity, seen) });
      const scope = testScope({ kv: { name: "witness", params: {} } });
      const tokens = tokensOf(40);
      using session = engine.session(tokens.slice(0, 14), { scope });
      await session.logits();
      for (const [i, token] of tokens.slice(14).entries()) {
        session.append([token]);
        await session.logits();
        const { kept } = seen.at(-1)!, { bytes, bytesFull } = scope.meter.kv!;
        const pageBytes = bytesFull / Math.ceil((15 + i) / smallPage) / kept.length;
        const pages = kept.reduce((sum, count) => sum + Math.ceil(count / smallPage), 0);
        assertAlmostEquals(bytes, pages * pageBytes, 1e-6);
        engine.checkPages();
      }
      assert(seen.at(-1)!.compared > 50, `${seen.at(-1)!.compared} vectors compared`);
    });
  }
}
