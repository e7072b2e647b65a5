/** Threads change no result, join by themselves and leave nothing behind. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import type { Backend, DType } from "../../../../runtime/backend/backend.ts";
import { Heap } from "../../../../runtime/backend/wasm/heap.ts";
import { instantiate, kernelModule } from "../../../../runtime/backend/wasm/kernels/mod.ts";
import { createWasmBackend } from "../../../../runtime/backend/wasm/mod.ts";
import { MAX_THREADS, Team } from "../../../../runtime/backend/wasm/team.ts";
import { evaluate } from "../../../conformance/_backend_ops.ts";
import { randomMatrix, randomOf } from "../../../conformance/_backend_reference.ts";

function createTeam(threads: number): { readonly team: Team; readonly heap: Heap } {
  const heap = new Heap(64, true);
  const module = kernelModule({ relaxed: false, shared: true });
  return { heap, team: new Team(heap, module, instantiate(module, heap.memory), threads) };
}

/** Resolves once `condition` holds; the event loop goes on meanwhile. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}

Deno.test("Team runs every part once, in several threads", async () => {
  const { team, heap } = createTeam(3);
  using _ = team;
  assert(team.size >= 1 && team.size <= 3, "Workers join in their own time");
  await until(() => team.size === 3);
  const ones = heap.take("ones", 64);
  heap.floats.fill(1, ones / 4, ones / 4 + 16);
  const sums = [0, 1, 2].map(() => heap.takeZeroed("sum", 64));
  for (let call = 1; call <= 40; call++) {
    // Each part adds 1 to its own sum.
    team.run("add", sums.map((sum) => [sum, ones, sum, 64]));
    if (call % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 5)); // they sleep
  }
  for (const sum of sums) {
    assertEquals([...heap.floats.subarray(sum / 4, sum / 4 + 16)], new Array(16).fill(40));
  }
});

async function multiply(
  backend: Backend,
  dtype: DType,
  [rows, depth, outputs]: readonly [number, number, number],
): Promise<Float32Array> {
  const rng = randomOf(50);
  const x = randomMatrix(rng, rows, depth), w = randomMatrix(rng, outputs, depth);
  const b = randomMatrix(rng, 1, outputs);
  using xt = backend.tensor("x", [rows, depth], "f32", x.data);
  using wt = backend.tensor("w", [outputs, depth], dtype, w.data);
  using bt = backend.tensor("b", [outputs], "f32", b.data);
  return await evaluate(backend, (ops) => ops.linear(xt, wt, bt));
}

const shapes = [[1, 64, 1100], [3, 96, 333], [9, 256, 130], [70, 32, 47], [1, 32, 5]] as const;

for (const dtype of ["f32", "q8", "q4"] as const) {
  Deno.test(`linear() over ${dtype} is the same to the bit with any number of threads`, async () => {
    using alone = createWasmBackend();
    const expected: Float32Array[] = [];
    for (const shape of shapes) expected.push(await multiply(alone, dtype, shape));
    for (const threads of [2, 3]) {
      using backend = createWasmBackend({ threads });
      // Before, while and after the Workers join.
      for (let round = 0; round < 12; round++) {
        for (const [i, shape] of shapes.entries()) {
          assertEquals(await multiply(backend, dtype, shape), expected[i], `${threads} threads`);
        }
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
    }
  });
}

Deno.test("Team refuses numbers of threads out of range, and work after it was closed", () => {
  for (const threads of [0, 1.5, MAX_THREADS + 1]) {
    assertThrows(() => createTeam(threads), RangeError);
  }
  const { team } = createTeam(2);
  team[Symbol.dispose]();
  team[Symbol.dispose]();
  assertThrows(() => team.run("add", [[0, 0, 0, 0]]), Error, "closed");
  assert(team.size >= 1);
});

Deno.test("createWasmBackend() works alone without Workers and shared memory", async () => {
  const { SharedArrayBuffer, Worker } = globalThis;
  try {
    Object.assign(globalThis, { SharedArrayBuffer: undefined, Worker: undefined });
    using backend = createWasmBackend({ threads: 4 });
    using x = backend.tensor("x", [2, 3], "f32", Float32Array.of(1, 2, 3, 4, 5, 6));
    const product = await evaluate(backend, (ops) => ops.linear(x, x));
    assertEquals([...product], [14, 32, 32, 77]);
  } finally {
    Object.assign(globalThis, { SharedArrayBuffer, Worker });
  }
});
