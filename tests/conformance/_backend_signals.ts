/** Laws of the signals that attention records. */
import { assertEquals } from "@std/assert";
import { part, range, shape } from "./_backend_attention.ts";
import { attentionWeights, type Matrix, randomOf } from "./_backend_reference.ts";
import type { BackendLawOptions, LawContext } from "./backend.ts";
import { inputOf, World, type WorldRow } from "./_kv_world.ts";

const names = ["attention-sum", "attention-last", "attention-max", "key-norm"] as const;

/** Laws of what attention records for policies. */
export function signalLaws(
  { law, assertClose }: LawContext,
  readSignal: NonNullable<BackendLawOptions["readSignal"]>,
): void {
  law("attention() records signals per slot and forgets them on kvWrite()", async (backend) => {
    const rng = randomOf(32);
    using world = new World(backend, shape);
    const row = world.row(rng, "sequence", 7, [7], range(0, 4));
    for (let round = 0; round < 2; round++) { // the second one reuses the slots
      const input = inputOf(world.shape, rng, 7);
      world.write(1, [row], input.k, input.v);
      await world.attention(1, [row], input.q, names);
      for (let head = 0; head < shape.kvHeads; head++) {
        const expected = expectedSignals(world, row, head, input.q);
        for (const name of names) {
          const actual = await readSignal(world.pool, name, 1, head, row.slots[0]!);
          const values = expected[name].map((value) => ({ value, magnitude: value * 14 }));
          assertClose(actual, values, 7 + shape.headDim);
        }
      }
    }
  });

  law("recorded signals are the same to the bit in chunks and as a whole", async (backend) => {
    const rng = randomOf(33);
    const outputs: Float32Array[][] = [];
    const input = inputOf(shape, rng, 9);
    for (const chunks of [[9], [4, 5], new Array(9).fill(1)]) {
      using world = new World(backend, shape);
      const pages = world.row(rng, "sequence", 9, [9], range(0, 4));
      let start = 0;
      for (const length of chunks) {
        const slots = [pages.slots[0]!.slice(start, start + length)];
        const row = { ...pages, length, counts: Uint32Array.of(start + length), slots };
        const chunk = part(input, start, start + length);
        world.write(0, [row], chunk.k, chunk.v);
        await world.attention(0, [row], chunk.q, names);
        start += length;
      }
      const read = names.map((name) => readSignal(world.pool, name, 0, 1, pages.slots[0]!));
      outputs.push(await Promise.all(read));
    }
    assertEquals(outputs[1], outputs[0]);
    assertEquals(outputs[2], outputs[0]);
  });
}

/** Signals of a causal row that started its sequence, in layer 1. */
function expectedSignals(
  world: World,
  row: WorldRow,
  head: number,
  q: Matrix,
): Record<typeof names[number], number[]> {
  const zeros = () => new Array<number>(row.length).fill(0);
  const out = {
    "attention-sum": zeros(),
    "attention-last": zeros(),
    "attention-max": zeros(),
    "key-norm": world.visible(row, 1, head, row.length - 1).keys.map((k) => Math.hypot(...k)),
  };
  const { heads, kvHeads, headDim } = world.shape;
  const perGroup = heads / kvHeads;
  for (let t = 0; t < row.length; t++) {
    const { keys } = world.visible(row, 1, head, t);
    for (let h = head * perGroup; h < (head + 1) * perGroup; h++) {
      const from = t * heads * headDim + h * headDim;
      const weights = attentionWeights(q.data.slice(from, from + headDim), keys, world.scale);
      for (const [s, weight] of weights.entries()) {
        out["attention-sum"][s]! += weight;
        out["attention-max"][s] = Math.max(out["attention-max"][s]!, weight);
        if (t === row.length - 1) out["attention-last"][s]! += weight;
      }
    }
  }
  return out;
}
