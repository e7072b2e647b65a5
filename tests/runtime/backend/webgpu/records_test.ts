/** Records of KV policies are counted before they are made. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import type { GpuBackendOptions, GpuKvPool } from "../../../../runtime/backend/webgpu/mod.ts";
import { createEngine } from "../../../../runtime/engine/engine.ts";
import { createLocalExecutor } from "../../../../runtime/engine/local_executor.ts";
import { OutOfMemoryError } from "../../../../runtime/errors.ts";
import type { KvFormat, KvSignal } from "../../../../runtime/kv/policy.ts";
import { loadDecoder } from "../../../../runtime/models/mod.ts";
import { createTestGpuBackend, testWithGpu } from "../../../_webgpu.ts";
import { hashedWeights, llamaShapes, tinyConfig } from "../../../fakes/hashed_weights.ts";
import { fakeAdapters } from "../../../fakes/kv_adapters.ts";
import { fakeVocab } from "../../../fakes/mod.ts";
import { testScope } from "../../engine/_fixtures.ts";

const layout = { layers: 3, kvHeads: 2, headDim: 6, pageSize: 8 };

testWithGpu("recordBytes of a pool are what its records then take", () => {
  const keyBytes = 4 * 2 * 8 * 8 * 40;
  // One buffer for all layers, then one for each.
  for (const bindingBytes of [3 * keyBytes, keyBytes]) {
    using backend = createTestGpuBackend({ bindingBytes });
    using pool = backend.kvPool(layout, 40) as GpuKvPool;
    const grows = (make: (layer: number) => unknown) => {
      const before = backend.stats().bytes;
      for (let layer = 0; layer < layout.layers; layer++) make(layer);
      return backend.stats().bytes - before;
    };
    const cases: [KvSignal, number, KvFormat][] = [
      ["attention-sum", 1, "f32"],
      ["attention-sum", 1, "int4"],
      ["adapter:x", 3, "f32"],
    ];
    for (const [signal, width, format] of cases) {
      pool.setWidth(signal, width);
      const bytes = pool.recordBytes.slots(width, format);
      assertEquals(grows((layer) => pool.record(signal, layer, format)), bytes, signal);
    }
    assertEquals(grows((layer) => pool.bounds(layer)), pool.recordBytes.bounds());
    assertEquals(pool.recordBytes.slots(9, "f32"), Infinity);
    assertThrows(() => (pool.setWidth("query", 9), pool.record("query", 0)), RangeError, "binding");
  }
});

const config = { ...tinyConfig, headDim: 8 };

function open(options: GpuBackendOptions = {}) {
  const backend = createTestGpuBackend(options);
  const decoder = loadDecoder(config, hashedWeights(llamaShapes(config)), backend);
  const loaded = fakeAdapters(config, backend);
  const executor = createLocalExecutor(decoder, backend, {
    pages: 8192,
    pageSize: 8,
    contextLength: 64,
    adapters: loaded.flatMap(({ adapter }) => adapter ?? []),
    adapterData: Object.fromEntries(loaded.map(({ name, data }) => [name, data])),
  });
  const pieces = Array.from({ length: config.vocab }, (_, i) => String.fromCharCode(97 + i));
  const engine = createEngine({ id: "tiny", vocab: fakeVocab({ pieces }), executor });
  return { backend, engine, room: executor.info.records! };
}

/** Logits of a prompt and, one by one, of what follows. */
async function decode({ engine }: Pick<ReturnType<typeof open>, "engine">, name: string) {
  const scope = testScope({ kv: { name, params: {} } });
  using session = engine.session(Array.from({ length: 30 }, (_, i) => (7 * i + 3) % 20), { scope });
  const rows = [...await session.logits()];
  for (const token of [5, 9, 2]) {
    session.append([token]);
    rows.push(...await session.logits());
  }
  return rows;
}

testWithGpu("a policy whose records do not fit is refused at once, the others go on", async () => {
  const free = open();
  const { bytes, signals, bounds } = free.room;
  const taken = 2 ** 40 - bytes; // weights, pages and a step
  assert(taken > free.backend.stats().bytes);
  const expected = [await decode(free, "full"), await decode(free, "h2o")];
  await free.engine[Symbol.asyncDispose]();
  free.backend[Symbol.dispose]();
  const h2o = signals["attention-sum f32"]!;
  assert(h2o > 0 && bounds > h2o && signals["adapter:nats f32"] === 3 * h2o);
  const tight = open({ memoryBytes: taken + Math.floor(1.5 * h2o) });
  assertEquals(tight.room.bytes, Math.floor(1.5 * h2o));
  assertEquals(await decode(tight, "h2o"), expected[1]);
  for (const name of ["nats", "quest", "expected-attention", "tova"]) {
    const scope = testScope({ kv: { name, params: {} } });
    assertThrows(() => tight.engine.session([1, 2], { scope }), OutOfMemoryError, `"${name}"`);
  }
  assertEquals([await decode(tight, "full"), await decode(tight, "h2o")], expected);
  await tight.engine[Symbol.asyncDispose]();
  tight.backend[Symbol.dispose]();
});
