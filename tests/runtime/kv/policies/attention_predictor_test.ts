import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { FormatError, PolicyError } from "../../../../runtime/errors.ts";
import { lastRow, meanRows, network } from "../../../../runtime/kv/policies/_forecast.ts";
import { attentionPredictor } from "../../../../runtime/kv/policies/attention_predictor.ts";
import type { KvGroup, KvLayout, KvModel } from "../../../../runtime/kv/policy.ts";
import { createRng, seedFrom } from "../../../../runtime/rng.ts";

const layout: KvLayout = { layers: 1, kvHeads: 1, headDim: 4, pageSize: 4 };

function randomNetwork(seed: number): Record<string, Float32Array> {
  const rng = createRng(seedFrom(seed));
  const values = (size: number) => Float32Array.from({ length: size }, () => rng.next() - 0.5);
  return {
    "conv1.weight": values(144),
    "conv1.bias": values(16),
    "conv2.weight": values(4608),
    "conv2.bias": values(32),
    "conv3.weight": values(32),
    "conv3.bias": values(1),
  };
}

function groupOf(weights: readonly number[]): KvGroup {
  const signal = () => Float32Array.from(weights);
  const positions = Uint32Array.from(weights, (_, i) => i);
  return { layers: [0, 1], kvHeads: [0, 1], positions, encoded: 0, signal, signalOf: signal };
}

/** Read slots after each of the attention rows. */
function reads(params: Record<string, unknown>, rows: readonly (readonly number[])[]) {
  const all = { "dense_layers": 0, ...params };
  let state = attentionPredictor.init(layout, attentionPredictor.params.parse(all));
  return rows.map((row) => {
    const view = { committed: row.length, promptLength: 0, tokens: [], groups: [groupOf(row)] };
    const next = attentionPredictor.plan(state, view);
    state = next.state;
    const [edit] = next.edits;
    return edit?.op === "read" ? edit.slots && [...edit.slots] : undefined;
  });
}

Deno.test("meanRows() and lastRow() are what their names say", () => {
  const rows = [Float32Array.of(1, 0, 2), Float32Array.of(3, 4, 0)];
  assertEquals(meanRows(rows), Float32Array.of(2, 2, 1));
  assertEquals(lastRow(rows), rows[1]!);
});

Deno.test("network() has the published sizes and is constant over inner blocks of nothing", () => {
  const tensors = randomNetwork(1);
  const sizes = Object.values(tensors).map((values) => values.length);
  assertEquals(sizes.reduce((a, b) => a + b), 4833);
  const scores = network(tensors, 4)([new Float32Array(12)]);
  for (let b = 3; b < 9; b++) assertEquals(scores[b], scores[3]);
  assertThrows(() => network({ ...tensors, "conv1.bias": new Float32Array(3) }, 4), FormatError);
});

Deno.test("network() moves with its input, away from the borders", () => {
  const forecast = network(randomNetwork(2), 3);
  const image = (at: number) => [Float32Array.from({ length: 16 }, (_, b) => b === at ? 1 : 0)];
  const a = forecast(image(7)), b = forecast(image(8));
  assert(a[7] !== a[3], "the input shows");
  for (let block = 3; block < 12; block++) assertAlmostEquals(a[block]!, b[block + 1]!, 1e-6);
});

Deno.test("attention-predictor reads sinks, the window and the best blocks, and at times all", () => {
  const row = Array.from({ length: 32 }, (_, i) => i === 13 ? 0.5 : i === 21 ? 0.3 : 0.01);
  const rows = Array.from({ length: 4 }, () => row);
  const params = { budget: 12, sinks: 4, window: 4, "calibrate_every": 3 };
  const block = [12, 13, 14, 15];
  const expected = [0, 1, 2, 3, ...block, 28, 29, 30, 31];
  assertEquals(reads(params, rows), [expected, expected, undefined, expected]);
});

Deno.test("attention-predictor reads sinks and window, and at most the budget and part of a block", () => {
  const sizes = fc.tuple(fc.nat(5), fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 5 }));
  const weights = fc.array(fc.float({ min: 0, max: 1, noNaN: true }), {
    minLength: 1,
    maxLength: 50,
  });
  const forecasts = fc.constantFrom("mean-rows", "last-row");
  fc.assert(
    fc.property(weights, sizes, fc.nat(20), forecasts, (row, size, more, forecast) => {
      const [sinks, window, block] = size, budget = sinks + window + block + more;
      const params = { budget, sinks, window, block, forecast, "calibrate_every": 100 };
      const [read] = reads(params, [row]);
      if (row.length <= budget) return assertEquals(read, undefined);
      assert(read!.length < budget + block, `${read!.length} of ${budget}`);
      assertEquals(read, [...new Set(read)].sort((a, b) => a - b));
      for (let i = 0; i < sinks; i++) assert(read!.includes(i));
      for (let i = row.length - window; i < row.length; i++) assert(read!.includes(i));
    }),
  );
});

Deno.test("attention-predictor reads everything below its budget", () => {
  assertEquals(reads({ budget: 32 }, [Array(32).fill(0.1)]), [undefined]);
});

Deno.test("attention-predictor begins with the mean of the prompt's last rows", () => {
  // The last row looks at block 2 (slots 8 to 11), the rows of the prompt's end at block 4.
  const last = Array.from({ length: 32 }, (_, i) => i === 9 ? 0.9 : 0);
  const sums = last.map((_, i) => i === 17 ? 3 : 0);
  const signal = (name: string) => Float32Array.from(name === "attention-last" ? last : sums);
  const group: KvGroup = { ...groupOf(last), signal, signalOf: signal };
  const chosen = (promptLength: number) => {
    const params = attentionPredictor.params.parse({
      "budget": 12,
      "sinks": 4,
      "window": 4,
      "history": 4,
      "dense_layers": 0,
    });
    const state = attentionPredictor.init(layout, params);
    const view = { committed: 32, promptLength, tokens: [], groups: [group] };
    const [edit] = attentionPredictor.plan(state, view).edits;
    return edit?.op === "read" ? [...edit.slots ?? []].slice(4, 8) : undefined;
  };
  assertEquals(chosen(32), [16, 17, 18, 19]); // 3 * 3 / 4 against 0.9
  assertEquals(chosen(1), [8, 9, 10, 11]);
});

Deno.test("attention-predictor leaves the first dense_layers layers alone", () => {
  const row = Array(32).fill(0.1);
  const params = { budget: 12, sinks: 4, window: 4 };
  assertEquals(reads({ ...params, "dense_layers": 1 }, [row, row]), [undefined, undefined]);
  assertEquals(reads(params, [row])[0]?.length, 12);
});

Deno.test("attention-predictor counts what was not read as nothing", () => {
  const first = Array.from({ length: 24 }, (_, i) => i === 9 ? 0.9 : 0);
  // A slot that was not read keeps its old weight in the record; the policy must not believe it.
  const stale = first.map((w, i) => i === 17 ? 0.99 : w);
  const params = { budget: 12, sinks: 4, window: 4, forecast: "last-row" };
  assertEquals(reads(params, [first, stale])[1]?.slice(4, 8), [8, 9, 10, 11]);
});

Deno.test("attention-predictor refuses a network the model does not have, or of other settings", () => {
  const model: KvModel = { layout, heads: 1, contextLength: 64 };
  const params = attentionPredictor.params.parse({ forecast: "network" });
  assertThrows(() => attentionPredictor.check?.(params, model), PolicyError, "no adapter");
  const data = { metadata: { history: "8", block: "4" }, tensors: randomNetwork(3) };
  const trained = { ...model, adapters: { "attention-predictor": data } };
  assertThrows(() => attentionPredictor.check?.(params, trained), PolicyError, "history 8");
  const fitting = attentionPredictor.params.parse({ forecast: "network", history: 8 });
  attentionPredictor.check?.(fitting, trained);
});
