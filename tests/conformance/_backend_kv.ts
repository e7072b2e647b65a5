/** Laws of what KV policies ask of a backend; each is run where the backend says it can. */
import { assertEquals } from "@std/assert";
import type { KvSupport } from "../../runtime/backend/backend.ts";
import type { KvGranularity } from "../../runtime/kv/policy.ts";
import { groupCount } from "../../runtime/kv/units.ts";
import type { LawContext } from "./backend.ts";
import { adapterLaw } from "./_backend_adapter.ts";
import { range, shape } from "./_backend_attention.ts";
import { formatLaws } from "./_backend_formats.ts";
import { readLaw, recordLaw, ruleLaw, sightLaw } from "./_backend_reads.ts";
import { type Matrix, randomOf, rope } from "./_backend_reference.ts";
import { inputOf, World } from "./_kv_world.ts";

/** @param support what the backend claims */
export function kvLaws(context: LawContext, support: KvSupport): void {
  for (const granularity of support.granularities) copyLaw(context, granularity);
  for (const format of support.formats) formatLaws(context, format);
  if (support.turns) turnLaw(context);
  if (support.readSlots) readLaw(context);
  if (support.sight) sightLaw(context);
  for (const score of support.reads) ruleLaw(context, score);
  if (support.adapters) recordLaw(context);
  if (support.adapters && support.reads.includes("oracle")) adapterLaw(context);
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
