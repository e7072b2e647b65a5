/** Laws of pages in formats of few bits. */
import { assert, assertEquals } from "@std/assert";
import type { SlotPlace } from "../../runtime/backend/backend.ts";
import type { KvFormat, KvSignal } from "../../runtime/kv/policy.ts";
import type { LawContext } from "./backend.ts";
import { part, range, shape } from "./_backend_attention.ts";
import { attend, type Expected, randomOf } from "./_backend_reference.ts";
import { inputOf, World, type WorldRow } from "./_kv_world.ts";

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

/** Laws of one format of pages. */
export function formatLaws({ law, assertClose }: LawContext, format: KvFormat): void {
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
