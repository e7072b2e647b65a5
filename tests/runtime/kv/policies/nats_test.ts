import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { PolicyError } from "../../../../runtime/errors.ts";
import { nats } from "../../../../runtime/kv/policies/nats.ts";
import { streaming } from "../../../../runtime/kv/policies/streaming.ts";
import type { KvGroup, KvLayout } from "../../../../runtime/kv/policy.ts";

const layout: KvLayout = { layers: 1, kvHeads: 1, headDim: 4, pageSize: 4 };
const LIFETIMES = "GLW";

/** Three logits per slot that make it of the type at its position. */
function groupOf(types: string, positions: readonly number[]): KvGroup {
  const logits = Float32Array.from(
    positions.flatMap((p) => [...LIFETIMES].map((type) => type === types[p] ? 5 : 0)),
  );
  const signal = () => logits;
  return {
    layers: [0, 1],
    kvHeads: [0, 1],
    positions: Uint32Array.from(positions),
    encoded: 0,
    signal,
    signalOf: signal,
  };
}

/** Positions that stay when the policy is consulted before every `every`-th token. */
function replay(types: string, window: number, every = 1): number[][] {
  const state = nats.init(layout, nats.params.parse({ window, interval: 1 }));
  let held: number[] = [];
  return [...types].map((_, next) => {
    const group = groupOf(types, held);
    const view = { committed: next, promptLength: 0, tokens: [], groups: [group] };
    const [edit] = next % every === 0 ? nats.plan(state, view).edits : [];
    if (edit?.op === "keep") held = Array.from(edit.slots, (slot) => held[slot]!);
    held = [...held, next];
    return held;
  });
}

/** The visibility rule, row by row. */
function visible(types: string, window: number): number[][] {
  const globalBetween = (n: number, m: number) => types.slice(n + 1, m).includes("G");
  return [...types].map((_, m) =>
    Array.from({ length: m + 1 }, (_, n) => n).filter((n) =>
      n === m || n === 0 || types[n] === "G" || (types[n] === "W" && m - n <= window) ||
      (types[n] === "L" && !globalBetween(n, m))
    )
  );
}

Deno.test("nats keeps what the specification's example sees", () => {
  const rows = replay("GLWWLGWLWW", 2);
  assertEquals(rows.map((row) => row.join()), [
    "0",
    "0,1",
    "0,1,2",
    "0,1,2,3",
    "0,1,2,3,4",
    "0,1,3,4,5",
    "0,5,6",
    "0,5,6,7",
    "0,5,6,7,8",
    "0,5,7,8,9",
  ]);
});

Deno.test("nats equals the visibility rule on random types", () => {
  const types = fc.array(fc.constantFrom(..."GLW"), { minLength: 1, maxLength: 40 });
  fc.assert(fc.property(types, fc.integer({ min: 1, max: 8 }), (list, window) => {
    const text = list.join("");
    assertEquals(replay(text, window), visible(text, window));
  }));
});

Deno.test("nats keeps by the rule whenever it is consulted, however seldom that is", () => {
  const types = fc.array(fc.constantFrom(..."GLW"), { minLength: 1, maxLength: 40 });
  const sizes = fc.tuple(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 2, max: 9 }));
  fc.assert(fc.property(types, sizes, (list, [window, every]) => {
    const text = list.join(""), rule = visible(text, window);
    replay(text, window, every).forEach((held, m) => {
      if (m % every === 0) assertEquals(held, rule[m]);
      else assertEquals(rule[m]!.filter((n) => !held.includes(n)), [], "and all of it in between");
    });
  }));
});

Deno.test("nats with window types alone is streaming with one sink", () => {
  const window = 5, text = "W".repeat(40);
  const state = streaming.init(layout, streaming.params.parse({ sinks: 1, window: window + 1 }));
  replay(text, window).forEach((held, m) => {
    const sees = (n: number) => streaming.lifetime!(state, n, 0, 0) > m;
    assertEquals(held, Array.from({ length: m + 1 }, (_, n) => n).filter(sees));
  });
});

Deno.test("nats keeps everything if all types are global, or windows are longer than the text", () => {
  const all = [["G".repeat(30), 1], ["W".repeat(30), 30], ["G" + "L".repeat(29), 1]] as const;
  for (const [types, window] of all) {
    assertEquals(replay(types, window).at(-1)!.length, 30);
  }
});

Deno.test("nats drops nothing that is not committed", () => {
  const state = nats.init(layout, nats.params.parse({ window: 1 }));
  const group = groupOf("GWWWWWW", [0, 1, 2, 3, 4, 5, 6]);
  const view = { committed: 4, promptLength: 0, tokens: [], groups: [group] };
  assertEquals(nats.plan(state, view).edits, [
    { op: "keep", group: 0, slots: Uint32Array.of(0, 3, 4, 5, 6) },
  ]);
});

Deno.test("nats takes the window of its router, and refuses a router that does not say", () => {
  const parsed = nats.params.parse({});
  assertThrows(() => nats.init(layout, parsed), PolicyError, "window");
  const adapters = { nats: { metadata: { window: "3" }, tensors: {} } };
  const model = { layout, heads: 1, contextLength: 64, adapters };
  assertEquals(nats.init(layout, parsed, model).window, 3);
  assertEquals(nats.complete?.(parsed, model).window, 3);
  assertEquals(nats.complete?.({ ...parsed, window: 2 }, model).window, 2);
});
