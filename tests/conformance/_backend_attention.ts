/** Laws of kvWrite, attention and kvCopy. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import type { KvGranularity } from "../../runtime/kv/policy.ts";
import type { LawContext } from "./backend.ts";
import { permutation, randomOf } from "./_backend_reference.ts";
import { attentionRows, type Input, inputOf, slice, World, type WorldRow } from "./_kv_world.ts";

export const shape = { layers: 2, heads: 4, kvHeads: 2, headDim: 8, pageSize: 4, pages: 24 };
const granularities: readonly KvGranularity[] = ["sequence", "layer", "kv-head"];

/** Pages `from` to `to - 1`. */
export function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}

/** Tokens `from` to `to - 1` of an input. */
export function part(input: Input, from: number, to: number): Input {
  return {
    q: slice(input.q, from, to),
    k: slice(input.k, from, to),
    v: slice(input.v, from, to),
  };
}

export function attentionLaws(context: LawContext): void {
  valueLaws(context);
  independenceLaws(context);
  treeLaws(context);
  poolLaws(context);
}

function valueLaws({ law, assertClose }: LawContext): void {
  for (const granularity of granularities) {
    law(`attention() over ragged tables per ${granularity} equals f64 loops`, async (backend) => {
      const rng = randomOf(20);
      using world = new World(backend, shape);
      world.fill(rng);
      const rows = [
        world.row(rng, granularity, 1, [13, 1, 9, 24], range(0, 8)),
        world.row(rng, granularity, 5, [5, 11, 8, 17], range(8, 16)),
        world.row(rng, granularity, 2, [2, 32, 7, 3], range(16, 24)),
      ];
      for (let layer = 0; layer < shape.layers; layer++) {
        const input = inputOf(world.shape, rng, 8);
        const actual = await world.step(layer, rows, input);
        assertClose(actual, world.expected(layer, rows, input.q), 32 + shape.headDim);
      }
    });
  }

  law("attention() groups query heads over kv heads, for odd sizes", async (backend) => {
    const rng = randomOf(21);
    const shapes = [[1, 1, 2, 1], [6, 2, 6, 3], [8, 1, 16, 16], [3, 3, 64, 5]] as const;
    for (const [heads, kvHeads, headDim, pageSize] of shapes) {
      using world = new World(backend, { layers: 1, heads, kvHeads, headDim, pageSize, pages: 40 });
      world.fill(rng);
      const row = world.row(rng, "sequence", 3, [19], range(0, 40));
      const input = inputOf(world.shape, rng, 3);
      const actual = await world.step(0, [row], input);
      assertClose(actual, world.expected(0, [row], input.q), 19 + headDim);
    }
  });

  law("attention() stays finite for scores that overflow e^x", async (backend) => {
    const rng = randomOf(22);
    using world = new World(backend, shape);
    const row = world.row(rng, "sequence", 6, [6], range(0, 8));
    const input = inputOf(world.shape, rng, 6);
    for (const { data } of [input.q, input.k]) for (const i of data.keys()) data[i]! *= 100;
    const actual = await world.step(0, [row], input);
    assert(actual.every(Number.isFinite));
  });
}

function independenceLaws({ law }: LawContext): void {
  law("attention() of a row is the same to the bit alone and among others", async (backend) => {
    const rng = randomOf(23);
    using world = new World(backend, shape);
    world.fill(rng);
    const lengths = [1, 3, 1, 2, 4, 1, 1, 5];
    const rows = lengths.map((length, i) =>
      world.row(rng, "sequence", length, [length + i], range(3 * i, 3 * i + 3))
    );
    const tokens = lengths.reduce((a, b) => a + b);
    const input = inputOf(world.shape, rng, tokens);
    world.write(0, rows, input.k, input.v);
    const width = shape.heads * shape.headDim;
    const starts = attentionRows(rows).map((row) => row.start);
    for (let count = 1; count <= 8; count++) {
      const q = slice(input.q, 0, starts[count] ?? tokens);
      const together = await world.attention(0, rows.slice(0, count), q);
      for (let i = 0; i < count; i++) {
        const from = starts[i]!, to = from + lengths[i]!;
        const alone = await world.attention(0, [rows[i]!], slice(input.q, from, to));
        assertEquals(alone, together.slice(from * width, to * width), `row ${i} of ${count}`);
      }
    }
  });

  law("attention() is the same to the bit wherever pages lie", async (backend) => {
    const rng = randomOf(24);
    const input = inputOf(shape, rng, 21);
    const outputs: Float32Array[] = [];
    for (let placement = 0; placement < 3; placement++) {
      using world = new World(backend, shape);
      world.fill(rng);
      const row = world.row(rng, "kv-head", 21, [21], range(0, 24));
      outputs.push(await world.step(1, [row], input));
    }
    assertEquals(outputs[1], outputs[0]);
    assertEquals(outputs[2], outputs[0]);
  });

  law("attention() is the same to the bit in chunks and as a whole", async (backend) => {
    const rng = randomOf(25);
    using world = new World(backend, shape);
    const input = inputOf(world.shape, rng, 21);
    const whole = world.row(rng, "sequence", 21, [21], range(0, 6));
    const expected = await world.step(0, [whole], input);
    for (const chunks of [[1, 20], [7, 1, 13], [4, 4, 4, 4, 5], new Array(21).fill(1)]) {
      const pages = world.row(rng, "sequence", 21, [21], range(6, 12));
      const actual: number[] = [];
      let start = 0;
      for (const length of chunks) {
        const end = start + length;
        const row: WorldRow = {
          ...pages,
          length,
          counts: Uint32Array.of(end),
          slots: pages.slots.map((slots) => slots.slice(start, end)),
        };
        actual.push(...await world.step(0, [row], part(input, start, end)));
        start = end;
      }
      assertEquals(actual, [...expected], `chunks of ${chunks}`);
    }
  });

  law("attention() never sees slots that are not counted, not even NaN", async (backend) => {
    const rng = randomOf(26);
    const input = inputOf(shape, rng, 6);
    const history = inputOf(shape, rng, 9);
    const outputs: Float32Array[] = [];
    for (const filler of [0, NaN]) {
      using world = new World(backend, shape);
      world.fill(rng, filler);
      const placement = randomOf(27);
      const all = world.row(placement, "sequence", 15, [15], range(0, 24));
      const rowOf = (from: number, to: number): WorldRow => ({
        ...all,
        length: to - from,
        counts: Uint32Array.of(to),
        slots: [all.slots[0]!.slice(from, to)],
      });
      world.write(0, [rowOf(0, 9)], history.k, history.v);
      // Token 3 is masked out for token 5, which must not see it either.
      const treeMask = Uint32Array.of(1, 3, 7, 15, 31, 0b110111);
      const last = { ...rowOf(9, 15), treeMask };
      outputs.push(await world.step(0, [last], input));
    }
    assertEquals(outputs[1], outputs[0]);
    assert(outputs[0]!.every(Number.isFinite));
  });
}

/** Bits of each node's ancestors and itself. */
function treeMaskOf(parents: readonly number[]): Uint32Array {
  const words = Math.ceil(parents.length / 32);
  const mask = new Uint32Array(parents.length * words);
  for (const node of parents.keys()) {
    for (let at = node; at >= 0; at = parents[at]!) {
      mask[node * words + (at >>> 5)]! |= 1 << (at & 31);
    }
  }
  return mask;
}

function treeLaws({ law, assertClose }: LawContext): void {
  law("attention() under a tree mask equals f64 loops, also above 32 nodes", async (backend) => {
    const rng = randomOf(28);
    for (const nodes of [1, 7, 33, 70]) {
      const parents = Array.from({ length: nodes }, (_, i) => Math.floor(rng.next() * (i + 1)) - 1);
      using world = new World(backend, shape);
      world.fill(rng);
      const count = 9 + nodes;
      const row = {
        ...world.row(rng, "layer", nodes, [count], range(0, 24)),
        treeMask: treeMaskOf(parents),
      };
      const input = inputOf(world.shape, rng, nodes);
      const actual = await world.step(1, [row], input);
      assertClose(actual, world.expected(1, [row], input.q), count + shape.headDim);
    }
  });

  law("attention() under a tree mask that is a chain is causal attention", async (backend) => {
    const rng = randomOf(29);
    using world = new World(backend, shape);
    world.fill(rng);
    const row = world.row(rng, "sequence", 6, [11], range(0, 8));
    const input = inputOf(world.shape, rng, 6);
    const causal = await world.step(0, [row], input);
    const chain = { ...row, treeMask: treeMaskOf([-1, 0, 1, 2, 3, 4]) };
    assertEquals(await world.attention(0, [chain], input.q), causal);
  });
}

function poolLaws({ law, assertClose }: LawContext): void {
  law("kvCopy() copies all layers and heads and leaves the source", async (backend) => {
    const rng = randomOf(30);
    using world = new World(backend, shape);
    world.fill(rng);
    const order = permutation(rng, world.slots);
    world.copy(order.slice(0, 20), order.slice(20, 40));
    for (let layer = 0; layer < shape.layers; layer++) {
      const row = world.row(rng, "sequence", 1, [96], range(0, 24));
      const q = inputOf(world.shape, rng, 1).q;
      assertClose(await world.attention(layer, [row], q), world.expected(layer, [row], q), 104);
    }
  });

  law("kvWrite(), attention() and kvCopy() refuse what is not in the pool", (backend) => {
    const rng = randomOf(31);
    using world = new World(backend, shape);
    const row = world.row(rng, "sequence", 2, [2], range(0, 4));
    const input = inputOf(world.shape, rng, 2);
    const outside = { ...row, slots: [Uint32Array.of(0, world.slots)] };
    assertThrows(() => world.write(0, [outside], input.k, input.v), RangeError);
    assertThrows(() => world.write(shape.layers, [row], input.k, input.v), RangeError);
    const attend = (change: Partial<WorldRow>) => {
      using q = backend.tensor("q", [input.q.rows, input.q.cols], "f32", input.q.data);
      const rows = attentionRows([{ ...row, ...change }]);
      backend.record((ops) =>
        ops.attention(q, world.pool, 0, rows, { scale: 1, signals: [] })[Symbol.dispose]()
      );
    };
    assertThrows(() => attend({ pages: [Uint32Array.of(shape.pages)] }), RangeError);
    assertThrows(() => attend({ counts: Uint32Array.of(shape.pageSize + 1) }), RangeError);
    assertThrows(() => attend({ counts: Uint32Array.of(1) }), RangeError);
    assertThrows(() => world.copy(Uint32Array.of(0), Uint32Array.of(world.slots)), RangeError);
    assertThrows(() => world.copy(Uint32Array.of(0, 1), Uint32Array.of(1, 2)), RangeError);
    return Promise.resolve();
  });
}
