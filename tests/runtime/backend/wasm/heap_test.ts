import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { Heap } from "../../../../runtime/backend/wasm/heap.ts";
import { createWasmBackend } from "../../../../runtime/backend/wasm/mod.ts";

Deno.test("Heap gives blocks that do not overlap, for any order of take and give", () => {
  const action = fc.record({ bytes: fc.integer({ min: 0, max: 200_000 }), free: fc.nat(20) });
  fc.assert(fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
    const heap = new Heap(200);
    const live: { at: number; bytes: number; mark: number }[] = [];
    for (const [i, { bytes, free }] of actions.entries()) {
      const at = heap.takeZeroed("test", bytes);
      assert(at > 0 && at % 64 === 0 && at + bytes <= heap.size);
      const words = heap.words.subarray(at / 4, Math.ceil((at + bytes) / 4));
      assert(words.every((word) => word === 0));
      words.fill(i + 1);
      live.push({ at, bytes, mark: i + 1 });
      if (free < live.length) {
        const [gone] = live.splice(free, 1);
        heap.give(gone!.at, gone!.bytes);
      }
    }
    for (const { at, bytes, mark } of live) {
      const words = heap.words.subarray(at / 4, Math.ceil((at + bytes) / 4));
      assert(words.every((word) => word === mark), "a block was written by another");
      heap.give(at, bytes);
    }
    assertEquals(heap.used, 0);
    const size = heap.size;
    heap.take("everything", size - 64);
    assertEquals(heap.size, size, "released blocks join to one");
  }));
});

Deno.test("Heap refuses what its limit cannot hold, and goes on", () => {
  const heap = new Heap(32);
  const first = heap.take("first", 20 * 65_536);
  const error = assertThrows(() => heap.take("the weights", 20 * 65_536), RangeError);
  for (const part of ["the weights of 2 MiB", "2 MiB are in use", "at most 2 MiB"]) {
    assert(error.message.includes(part), error.message);
  }
  heap.give(first, 20 * 65_536);
  assertEquals(heap.take("second", 20 * 65_536), first);
});

Deno.test("createWasmBackend() refuses tensors and pools beyond its memory by name", () => {
  using backend = createWasmBackend({ maxPages: 16 });
  const tensor = () => backend.tensor("blk.0.ffn", [1024, 1024], "f32");
  assert(assertThrows(tensor, RangeError).message.includes("tensor blk.0.ffn of 4 MiB"));
  const layout = { layers: 4, kvHeads: 2, headDim: 64, pageSize: 16 };
  for (let i = 0; i < 3; i++) {
    const error = assertThrows(() => backend.kvPool(layout, 20), RangeError);
    assert(error.message.includes("the KV pool of 20 pages"), error.message);
  }
  // What a failed pool took has been given back.
  using small = backend.kvPool(layout, 2);
  assertEquals(small.pages, 2);
});

Deno.test("createWasmBackend() keeps memory constant over steps", async () => {
  using backend = createWasmBackend();
  using x = backend.tensor("x", [64, 256], "f32");
  using w = backend.tensor("w", [300, 256], "f32");
  const step = async () => {
    using y = backend.record((ops) => ops.linear(ops.add(x, x), w));
    await backend.read(y);
  };
  // Freed blocks are reused first: the address of a new tensor repeats.
  const probe = () => {
    using tensor = backend.tensor("probe", [1], "f32");
    return "address" in tensor ? tensor.address : undefined;
  };
  await step();
  const before = probe();
  for (let i = 0; i < 50; i++) await step();
  assertEquals(probe(), before);
  assert(typeof before === "number");
});
