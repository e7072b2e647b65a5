/** Laws of attention that reads less than there is: slots hidden, chosen by the host, or by a rule. */
import { assertEquals } from "@std/assert";
import type { ReadRule } from "../../runtime/kv/policy.ts";
import type { LawContext } from "./backend.ts";
import { part, range, shape } from "./_backend_attention.ts";
import { attend, type Expected, type Matrix, randomOf } from "./_backend_reference.ts";
import { attentionRows, inputOf, World, type WorldRow } from "./_kv_world.ts";

/** Slots that some tokens of a row no longer see. */
export function sightLaw({ law, assertClose }: LawContext): void {
  for (const treeMask of [undefined, Uint32Array.of(0b001, 0b011, 0b101)]) {
    law(
      `attention() hides slots from tokens, ${treeMask ? "of trees" : "in order"}`,
      async (backend) => {
        const rng = randomOf(45);
        using world = new World(backend, shape);
        world.fill(rng);
        const row = {
          ...world.row(rng, "sequence", 3, [14], range(0, 24)),
          ...treeMask && { treeMask },
        };
        const places = treeMask ? Uint32Array.of(20, 21, 21) : Uint32Array.of(20, 21, 22);
        const until = Uint32Array.of(9, 2 ** 32 - 1, 20, 21, 22, 23, 1, 2, 3, 30, 30, 99, 21, 99);
        const input = inputOf(shape, rng, 3);
        for (let layer = 0; layer < shape.layers; layer++) {
          world.write(layer, [row], input.k, input.v);
          const sight = { until, places };
          const actual = await world.attention(layer, [{ ...row, sight }], input.q);
          // The tree's last token does not see the one before it.
          const slotOf = (t: number, index: number) =>
            treeMask && t === 2 && index === 12 ? 13 : index;
          const sees = (t: number) => (index: number) => until[slotOf(t, index)]! > places[t]!;
          assertClose(actual, expectedOver(world, row, layer, input.q, sees), 14 + shape.headDim);
        }
      },
    );
  }
}

/** Slots that the host chooses. */
export function readLaw({ law, assertClose }: LawContext): void {
  law("attention() reads the slots it is told to, and newer ones", async (backend) => {
    const rng = randomOf(44);
    using world = new World(backend, shape);
    world.fill(rng);
    const row = world.row(rng, "layer", 3, [17, 20], range(0, 24));
    const read = [Uint32Array.of(0, 3, 9), undefined];
    const readFrom = Uint32Array.of(12, 0);
    const input = inputOf(shape, rng, 3);
    for (let layer = 0; layer < shape.layers; layer++) {
      world.write(layer, [row], input.k, input.v);
      const actual = await world.attention(layer, [{ ...row, read, readFrom }], input.q);
      const sees = (index: number) => layer === 1 || index >= 12 || read[0]!.includes(index);
      assertClose(actual, expectedOver(world, row, layer, input.q, () => sees), 20 + shape.headDim);
    }
  });
}

/** Attention over what `sees` leaves of each token's and head's slots. */
function expectedOver(
  world: World,
  row: WorldRow,
  layer: number,
  q: Matrix,
  sees: (t: number, head: number, keys: readonly Float32Array[]) => (index: number) => boolean,
): Expected[] {
  const out: Expected[] = [];
  for (let t = 0; t < row.length; t++) {
    for (let h = 0; h < shape.heads; h++) {
      const head = Math.floor(h * shape.kvHeads / shape.heads);
      const { keys, values } = world.visible(row, layer, head, t);
      const keep = sees(t, head, keys);
      const at = t * q.cols + h * shape.headDim;
      out.push(...attend(
        q.data.slice(at, at + shape.headDim),
        keys.filter((_, i) => keep(i)),
        values.filter((_, i) => keep(i)),
        world.scale,
      ));
    }
  }
  return out;
}

/** Slots that the kernel chooses by a score. */
export function ruleLaw({ law, assertClose }: LawContext, score: ReadRule["score"]): void {
  if (score === "adapter") return; // see recordLaw
  const rule: ReadRule = {
    score,
    budget: 9,
    sinks: 2,
    window: 3,
    denseLayers: 0,
    densePrefill: true,
  };

  law(
    `attention() by ${score} with a budget above the length is the same to the bit`,
    async (backend) => {
      const rng = randomOf(45);
      using world = new World(backend, shape);
      world.fill(rng);
      const row = world.row(rng, "sequence", 2, [19], range(0, 24));
      const input = inputOf(shape, rng, 2);
      world.write(0, [row], input.k, input.v);
      const all = await world.attention(0, [row], input.q);
      const wide = { ...row, rule: { ...rule, budget: 19 } };
      assertEquals(await world.attention(0, [wide], input.q), all);
      const dense = { ...row, rule: { ...rule, denseLayers: 1 } };
      assertEquals(await world.attention(0, [dense], input.q), all);
      const late = { ...row, rule, ruleFrom: 2 };
      assertEquals(await world.attention(0, [late], input.q), all);
    },
  );

  if (score !== "oracle") return;
  law("attention() by oracle reads sinks, window and the largest scores", async (backend) => {
    const rng = randomOf(46);
    using world = new World(backend, shape);
    world.fill(rng);
    const row = world.row(rng, "kv-head", 2, [19, 25, 12, 7], range(0, 24));
    const input = inputOf(shape, rng, 2);
    world.write(1, [row], input.k, input.v);
    const actual = await world.attention(1, [{ ...row, rule }], input.q);
    const expected = expectedOver(world, row, 1, input.q, (t, head, keys) => {
      const chosen = largest(input.q, keys, t, head);
      return (index) => chosen.has(index);
    });
    assertClose(actual, expected, 25 + shape.headDim);
  });

  /** Indices of sinks, window and the best of the rest, by the largest score of the head's queries. */
  function largest(q: Matrix, keys: readonly Float32Array[], t: number, head: number): Set<number> {
    const { budget, sinks, window } = rule, perGroup = shape.heads / shape.kvHeads;
    const scoreOf = (key: Float32Array) =>
      Math.max(
        ...range(head * perGroup, (head + 1) * perGroup).map((h) =>
          key.reduce((sum, k, d) => sum + k * q.data[t * q.cols + h * shape.headDim + d]!, 0)
        ),
      );
    if (keys.length <= budget) return new Set(keys.keys());
    const middle = range(sinks, keys.length - window)
      .sort((a, b) => scoreOf(keys[b]!) - scoreOf(keys[a]!) || b - a);
    return new Set([
      ...range(0, sinks),
      ...middle.slice(0, budget - sinks - window),
      ...range(keys.length - window, keys.length),
    ]);
  }
}

/** What adapters record, and choosing by it. */
export function recordLaw({ law, assertClose }: LawContext): void {
  law("kvRecord() stays with its slots, and adapters' queries choose by it", async (backend) => {
    const rng = randomOf(47);
    using world = new World(backend, shape);
    const row = world.row(rng, "sequence", 9, [9], range(0, 24));
    const input = inputOf(shape, rng, 9), width = 2;
    world.write(0, [row], input.k, input.v);
    // The record of slot s is (1 + s, 1) for head 0 and (-1 - s, 1) for head 1.
    const values = Float32Array.from({ length: 9 * shape.kvHeads * width }, (_, i) => {
      const token = Math.floor(i / (shape.kvHeads * width));
      return i % width === 1
        ? 1
        : Math.floor(i / width) % shape.kvHeads === 0
        ? 1 + token
        : -1 - token;
    });
    using record = backend.tensor("record", [9, shape.kvHeads * width], "f32", values);
    const signal = "adapter:test" as const;
    backend.record((ops) =>
      ops.kvRecord!(world.pool, 0, signal, record, attentionRows([row]), [row.slots])
    );
    const stored = await world.pool.readSignal(signal, 0, 1, row.slots[0]!);
    assertEquals([...stored], range(0, 9).flatMap((s) => [-1 - s, 1]));

    const rule: ReadRule = {
      score: "adapter",
      adapter: "test",
      budget: 4,
      sinks: 1,
      window: 1,
      denseLayers: 0,
      densePrefill: true,
    };
    const last: WorldRow = { ...row, length: 1, slots: [row.slots[0]!.slice(8)] };
    const ask = Float32Array.from(
      { length: shape.heads * width },
      (_, i) => i % width === 0 ? 1 : 0,
    );
    using queries = backend.tensor("queries", [1, shape.heads * width], "f32", ask);
    const q = part(input, 8, 9).q;
    using qt = backend.tensor("q", [q.rows, q.cols], "f32", q.data);
    using out = backend.record((ops) =>
      ops.attention(qt, world.pool, 0, attentionRows([{ ...last, rule }]), {
        scale: world.scale,
        signals: [],
        queries: new Map([["test", queries]]),
      })
    );
    // Head 0 likes late slots, head 1 early ones.
    const liked = [new Set([0, 6, 7, 8]), new Set([0, 1, 2, 8])];
    const expected = expectedOver(
      world,
      last,
      0,
      q,
      (_, head) => (index) => liked[head]!.has(index),
    );
    assertClose(await backend.read(out), expected, 9 + shape.headDim);
  });
}
