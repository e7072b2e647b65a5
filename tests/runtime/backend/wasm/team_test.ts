/** Threads change no result, join by themselves and leave nothing behind. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import type { Backend, DType } from "../../../../runtime/backend/backend.ts";
import { Heap } from "../../../../runtime/backend/wasm/heap.ts";
import { instantiate, kernelModule } from "../../../../runtime/backend/wasm/kernels/mod.ts";
import { createWasmBackend } from "../../../../runtime/backend/wasm/mod.ts";
import { MAX_THREADS, Team, type TeamOptions } from "../../../../runtime/backend/wasm/team.ts";
import { EngineError } from "../../../../runtime/errors.ts";
import { evaluate } from "../../../conformance/_backend_ops.ts";
import { randomMatrix, randomOf } from "../../../conformance/_backend_reference.ts";

function createTeam(
  options: TeamOptions,
): { readonly team: Team; readonly heap: Heap; readonly sums: (count: number) => number[][] } {
  const heap = new Heap(64, true);
  const module = kernelModule({ relaxed: false, shared: true });
  const ones = heap.take("ones", 64);
  heap.floats.fill(1, ones / 4, ones / 4 + 16);
  return {
    heap,
    team: new Team(heap, module, instantiate(module, heap.memory), options),
    /** Parts that each add 1 to 16 numbers of their own. */
    sums: (count) =>
      Array.from({ length: count }, () => heap.takeZeroed("sum", 64)).map((
        sum,
      ) => [sum, ones, sum, 64]),
  };
}

/** Resolves once `condition` holds; the event loop goes on meanwhile. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}

Deno.test("Team runs every part once, in several threads, also more parts than a call holds", async () => {
  for (const count of [1, 2, 3, 100, 300]) {
    const { team, heap, sums } = createTeam({ threads: 3 });
    using _ = team;
    assertEquals(team.most, 3);
    assert(team.size >= 1 && team.size <= 3, "Workers join in their own time");
    await until(() => team.size === 3);
    const parts = sums(count);
    for (let call = 1; call <= 40; call++) {
      team.run("add", parts);
      if (call % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 5)); // they sleep
    }
    for (const [sum] of parts) {
      assertEquals([...heap.floats.subarray(sum! / 4, sum! / 4 + 16)], new Array(16).fill(40));
    }
  }
});

Deno.test("Team gives each thread a piece of memory of its own", async () => {
  const { team, heap } = createTeam({ threads: 3 });
  using _ = team;
  await until(() => team.size === 3);
  const one = heap.takeZeroed("one", 64), pieces = heap.takeZeroed("pieces", 3 * 64);
  heap.floats.fill(1, one / 4, one / 4 + 16);
  const parts = Array.from({ length: 60 }, () => [pieces, one, pieces, 64]);
  // Adding to "z" at the thread's piece, from "x" at the first: whoever runs a part writes only there.
  for (let call = 0; call < 30; call++) team.run("add", parts, { argument: 2, bytes: 64 });
  const first = heap.floats[pieces / 4]!;
  assert(first >= 1, "the caller takes part");
  for (let thread = 0; thread < 3; thread++) {
    const piece = heap.floats.subarray(pieces / 4 + 16 * thread, pieces / 4 + 16 * thread + 16);
    assert(piece.every((value) => value === piece[0]), "a piece is written by one thread");
  }
});

Deno.test("Team reports a kernel that fails in a thread, and refuses work after it", async () => {
  const { team, sums } = createTeam({ threads: 2 });
  using _ = team;
  await until(() => team.size === 2);
  const bad = [0, 0, 0x7ffffff0, 64]; // beyond the end of memory
  const parts = [...sums(100), ...Array.from({ length: 28 }, () => bad)];
  assertThrows(() => team.run("add", parts));
  // In the caller it is the kernel's own error; the other thread fails in one of the next calls.
  await until(() => {
    try {
      team.run("add", [bad, bad, bad, bad]);
    } catch (error) {
      return error instanceof EngineError;
    }
    return false;
  });
  assertThrows(() => team.run("add", sums(1)), EngineError, "failed in a thread");
});

Deno.test("Team says so when a thread that has taken a part is gone, instead of waiting for ever", async () => {
  const { Worker } = globalThis;
  const lost = new URL("./_team_worker_lost.ts", import.meta.url);
  class Lost extends Worker {
    constructor(_url: string | URL, options?: WorkerOptions) {
      super(lost, options);
    }
  }
  try {
    Object.assign(globalThis, { Worker: Lost });
    const { team, heap } = createTeam({ threads: 2, patienceMs: 1 });
    using _ = team;
    await until(() => team.size === 2);
    // Long parts, so that the thread gets at one of them before the caller has done all.
    const block = heap.takeZeroed("block", 1 << 20);
    const parts = Array.from({ length: 128 }, () => [block, block, block, 1 << 20]);
    await until(() => {
      try {
        team.run("add", parts);
      } catch (error) {
        assert(error instanceof EngineError && error.message.includes("does not answer"));
        return true;
      }
      return false;
    });
    assertThrows(() => team.run("add", parts), EngineError, "does not answer");
  } finally {
    Object.assign(globalThis, { Worker });
  }
});

Deno.test("Team does not start threads' work while other teams compute, and does all of it itself", async () => {
  const running = new SharedArrayBuffer(4);
  const { team, heap, sums } = createTeam({ threads: 2, running });
  using _ = team;
  await until(() => team.size === 2);
  const parts = sums(50), count = new Int32Array(running);
  count[0] = 1; // another one
  team.computing(() => {
    assertEquals(count[0], 2);
    team.run("add", parts);
  });
  assertEquals(count[0], 1);
  for (const [sum] of parts) assertEquals(heap.floats[sum! / 4], 1);
});

Deno.test("Team leaves its threads asleep when there is no work: no call, no processor time", async () => {
  const { team, sums } = createTeam({ threads: 3 });
  using _ = team;
  await until(() => team.size === 3);
  team.run("add", sums(50));
  // Sleepers are those that a notification wakes; a thread that spun would not be counted for ever.
  await until(() => team.sleeping() === 2);
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
      using backend = createWasmBackend({ threads, sharedWork: 0 });
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
    assertThrows(() => createTeam({ threads }), RangeError);
  }
  const { team } = createTeam({ threads: 2 });
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
