/** What adapters choose to read, against the best choice there could be. */
import { assertEquals, assertNotEquals } from "@std/assert";
import type { ReadRule } from "../../runtime/kv/policy.ts";
import type { LawContext } from "./backend.ts";
import { part, range, shape } from "./_backend_attention.ts";
import { randomOf } from "./_backend_reference.ts";
import { attentionRows, inputOf, World, type WorldRow } from "./_kv_world.ts";

const LAYER = 1, TOKENS = 20, ASKING = 2;

/** For backends that run adapters and read by oracle. */
export function adapterLaw({ law }: LawContext): void {
  law(
    "attention() by an adapter that records keys and asks with queries is that by oracle",
    async (backend) => {
      const rng = randomOf(48), { heads, kvHeads, headDim } = shape;
      using world = new World(backend, shape);
      const row = world.row(rng, "kv-head", TOKENS, [TOKENS], range(0, 24));
      const input = inputOf(shape, rng, TOKENS);
      world.write(LAYER, [row], input.k, input.v);
      using record = backend.tensor("record", [TOKENS, kvHeads * headDim], "f32", input.k.data);
      backend.record((ops) =>
        ops.kvRecord!(world.pool, LAYER, "adapter:test", record, attentionRows([row]), [row.slots])
      );
      const { q } = part(input, TOKENS - ASKING, TOKENS);
      const last: WorldRow = {
        ...row,
        length: ASKING,
        slots: row.slots.map((slots) => slots.slice(TOKENS - ASKING)),
      };
      const rule: ReadRule = {
        score: "oracle",
        budget: 8,
        sinks: 1,
        window: 2,
        denseLayers: 0,
        densePrefill: true,
      };
      const best = await world.attention(LAYER, [{ ...last, rule }], q);
      using queries = backend.tensor("queries", [ASKING, heads * headDim], "f32", q.data);
      using asked = backend.tensor("q", [ASKING, heads * headDim], "f32", q.data);
      using out = backend.record((ops) =>
        ops.attention(
          asked,
          world.pool,
          LAYER,
          attentionRows([{ ...last, rule: { ...rule, score: "adapter", adapter: "test" } }]),
          { scale: world.scale, signals: [], queries: new Map([["test", queries]]) },
        )
      );
      assertEquals(await backend.read(out), best);
      assertNotEquals(await world.attention(LAYER, [last], q), best, "something is not read");
    },
  );
}
