/** Laws of what KV policies ask of a backend; each is run where the backend says it can. */
import { assert, assertEquals } from "@std/assert";
import type { KvSupport, SlotPlace } from "../../runtime/backend/backend.ts";
import type { KvFormat, KvGranularity, KvSignal, ReadRule } from "../../runtime/kv/policy.ts";
import { groupCount } from "../../runtime/kv/units.ts";
import type { LawContext } from "./backend.ts";
import { part, range, shape } from "./_backend_attention.ts";
import { attend, type Expected, type Matrix, randomOf, rope } from "./_backend_reference.ts";
import { attentionRows, inputOf, World, type WorldRow } from "./_kv_world.ts";

/** @param support what the backend claims */
export function kvLaws(context: LawContext, support: KvSupport): void {
  for (const granularity of support.granularities) copyLaw(context, granularity);
  for (const format of support.formats) formatLaws(context, format);
  if (support.turns) turnLaw(context);
  if (support.readSlots) readLaw(context);
  if (support.sight) sightLaw(context);
  for (const score of support.reads) ruleLaw(context, score);
  if (support.adapters) recordLaw(context);
}

function copyLaw({ law, assertClose }: LawContext, granularity: KvGranularity): void {
  law(`kvCopy() per ${granularity} copies its units and no others`, async (backend) => {
    const rng = randomOf(40);
    using world = new World(backend, shape);
    world.fill(rng);
    const ids = groupCount(shape, granularity) * shape.pages;
    const slot = (id: number) => id * shape.pageSize + 1;
    world.copy(
      Uint32Array.of(slot(0), slot(ids - 1)),
      Uint32Array.of(slot(ids - 2), slot(1)),
      granularity,
    );
    for (let layer = 0; layer < shape.layers; layer++) {
      const row = world.row(rng, "sequence", 1, [96], range(0, 24));
      const q = inputOf(world.shape, rng, 1).q;
      assertClose(await world.attention(layer, [row], q), world.expected(layer, [row], q), 104);
    }
  });
}

/** Pages large enough for a group of kivi4. */
const largePages = { ...shape, pageSize: 16 };

const shapeFor = (format: KvFormat) => format === "kivi4" ? largePages : shape;

/** A row per head, of which all but the last 4 tokens move into another format. */
function encodedWorld(world: World, format: Exclude<KvFormat, "f32">) {
  const rng = randomOf(41), { shape } = world, old = format === "kivi4" ? 32 : 8, total = old + 4;
  const row = world.row(rng, "kv-head", total, [total], range(0, 12));
  const input = inputOf(world.shape, rng, total);
  for (let layer = 0; layer < shape.layers; layer++) world.write(layer, [row], input.k, input.v);
  const perPage = world.pool.slotsPerPage(format);
  assert(perPage > shape.pageSize, "a page holds more slots of few bits");
  const place = { granularity: "kv-head", format } as const;
  // Sequence pages 16 to 23 are free; one piece of them per head, more if a page holds too few.
  const each = Math.ceil(old / perPage);
  const ids = row.pages.map((_, g) =>
    Uint32Array.from({ length: each }, (_, i) => (g * each + i) % 8 + 16 + shape.pages * (g % 4))
  );
  const to = ids.map((list) =>
    Uint32Array.from(
      { length: old },
      (_, i) => list[Math.floor(i / perPage)]! * perPage + i % perPage,
    )
  );
  world.backend.record((ops) =>
    row.slots.forEach((slots, g) => ops.kvEncode!(world.pool, slots.slice(0, old), to[g]!, place))
  );
  const encoded: WorldRow = {
    ...row,
    length: 2,
    pages: row.pages.map((pages) => pages.slice(old / shape.pageSize)),
    counts: row.counts.map(() => 4),
    slots: row.slots.map((slots) => slots.slice(old + 2)),
    encoded: { format, pages: ids, counts: row.counts.map(() => old) },
  };
  return { row, encoded, to, place, input, old };
}

function formatLaws(
  { law, assertClose }: LawContext,
  format: KvFormat,
): void {
  if (format === "f32") return;
  law(`kvEncode() to ${format} keeps vectors within half a step`, async (backend) => {
    using world = new World(backend, shapeFor(format));
    const { row, to, place, input, old } = encodedWorld(world, format);
    const steps = { int8: 127, int4: 7.5, kivi4: 7.5 }[format];
    for (const [name, matrix] of [["key", input.k], ["value", input.v]] as const) {
      for (let g = 0; g < row.slots.length; g++) {
        const [layer, head] = [Math.floor(g / shape.kvHeads), g % shape.kvHeads];
        const stored = await world.pool.readSignal(name, layer, head, to[g]!, place);
        stored.forEach((value, i) => {
          const token = Math.floor(i / shape.headDim), d = i % shape.headDim;
          const at = token * matrix.cols + head * shape.headDim;
          const exact = matrix.data.subarray(at, at + shape.headDim);
          // The vector, or the channel's numbers of a group of tokens.
          const peers = format === "kivi4" && name === "key"
            ? range(0, old).map((t) => matrix.data[t * matrix.cols + head * shape.headDim + d]!)
            : [...exact];
          const most = Math.max(...peers.map(Math.abs));
          // Half a step of the largest scale there can be, and the rounding of scales to f16.
          const bound = most / steps / 2 + 0.004 * most;
          assert(Math.abs(value - exact[d]!) <= bound, `${name}: ${value} for ${exact[d]}`);
        });
      }
    }
  });

  law(
    `attention() over ${format} and f32 slots is that over the decoded values`,
    async (backend) => {
      using world = new World(backend, shapeFor(format));
      const { encoded, to, place, input, old } = encodedWorld(world, format);
      const q = part(input, old + 2, old + 4).q;
      for (let layer = 0; layer < shape.layers; layer++) {
        const actual = await world.attention(layer, [encoded], q);
        const expected: Expected[] = [];
        for (let t = 0; t < 2; t++) {
          for (let h = 0; h < shape.heads; h++) {
            const head = Math.floor(h * shape.kvHeads / shape.heads);
            const group = layer * shape.kvHeads + head;
            const read = (name: KvSignal) =>
              vectorsOf(world, name, layer, head, to[group]!, place, encoded, group, t);
            const at = t * q.cols + h * shape.headDim;
            const query = q.data.slice(at, at + shape.headDim);
            expected.push(...attend(query, await read("key"), await read("value"), world.scale));
          }
        }
        assertClose(actual, expected, old + 4 + shape.headDim);
      }
    },
  );

  law(`kvCopy() of ${format} slots copies bits`, async (backend) => {
    using world = new World(backend, shapeFor(format));
    const { to, place } = encodedWorld(world, format);
    const from = format === "kivi4" ? to[0]! : to[0]!.slice(0, 3);
    const perPage = world.pool.slotsPerPage(format);
    const target = Uint32Array.from(from, (_, i) => 15 * perPage + i);
    backend.record((ops) => ops.kvCopy(world.pool, from, target, place));
    for (const name of ["key", "value"] as const) {
      assertEquals(
        await world.pool.readSignal(name, 0, 0, target, place),
        await world.pool.readSignal(name, 0, 0, from, place),
      );
    }
  });
}

/** What token t of the row sees: encoded slots, then plain ones. */
async function vectorsOf(
  world: World,
  name: KvSignal,
  layer: number,
  head: number,
  encoded: Uint32Array,
  place: SlotPlace,
  row: WorldRow,
  group: number,
  t: number,
): Promise<Float32Array[]> {
  const { headDim, pageSize } = world.shape;
  const plain = Uint32Array.from(
    { length: 3 + t },
    (_, s) => row.pages[group]![Math.floor(s / pageSize)]! * pageSize + s % pageSize,
  );
  const f32 = { granularity: "kv-head", format: "f32" } as const;
  const all = [
    ...await world.pool.readSignal(name, layer, head, encoded, place),
    ...await world.pool.readSignal(name, layer, head, plain, f32),
  ];
  return Array.from(
    { length: all.length / headDim },
    (_, i) => Float32Array.from(all.slice(i * headDim, (i + 1) * headDim)),
  );
}

function turnLaw({ law, assertClose }: LawContext): void {
  for (const layout of ["half", "pairs"] as const) {
    law(
      `kvCopy() turns keys as if rotated for their new place, layout ${layout}`,
      async (backend) => {
        const rng = randomOf(43);
        using world = new World(backend, shape);
        const frequencies = Float64Array.from({ length: 4 }, (_, i) => 10000 ** (-i / 4));
        const spec = { headDim: shape.headDim, layout, frequencies };
        const input = inputOf(shape, rng, 4), places = Uint32Array.of(9, 30, 31, 200);
        const rotated = (positions: Uint32Array): Matrix => {
          const values = rope(input.k, positions, spec).map(({ value }) => value);
          return { ...input.k, data: Float32Array.from(values) };
        };
        const row = world.row(rng, "sequence", 4, [4], range(0, 1));
        world.write(1, [row], rotated(places), input.v);
        const shifts = Int32Array.of(-9, 0, -29, 50);
        const to = Uint32Array.of(40, 41, 42, 43);
        backend.record((ops) =>
          ops.kvCopy(world.pool, row.slots[0]!, to, { turn: { shifts, rope: spec } })
        );
        const moved = places.map((place, i) => place + shifts[i]!);
        const expected = rope(input.k, moved, spec);
        const { kvHeads, headDim } = shape;
        for (let head = 0; head < kvHeads; head++) {
          const own = expected.filter((_, i) => Math.floor(i / headDim) % kvHeads === head);
          // Two rotations: the stored key was rounded once already.
          assertClose(await world.pool.readSignal("key", 1, head, to), own, 16);
          const values = await world.pool.readSignal("value", 1, head, to);
          assertEquals(values, await world.pool.readSignal("value", 1, head, row.slots[0]!));
        }
      },
    );
  }
}

function sightLaw({ law, assertClose }: LawContext): void {
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

function readLaw({ law, assertClose }: LawContext): void {
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

function ruleLaw({ law, assertClose }: LawContext, score: ReadRule["score"]): void {
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

function recordLaw({ law, assertClose }: LawContext): void {
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
