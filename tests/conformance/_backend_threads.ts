/** Law of backends with threads: their number changes no bit of any op. */
import { assertEquals } from "@std/assert";
import type { Backend, Ops, Tensor } from "../../runtime/backend/backend.ts";
import { evaluate, upload } from "./_backend_ops.ts";
import { randomMatrix, randomOf } from "./_backend_reference.ts";
import type { LawContext } from "./backend.ts";
import { inputOf, World } from "./_kv_world.ts";
import { range, shape } from "./_backend_attention.ts";

/** Opens the backend with so many threads, all of which take part, however small an op is. */
export type CreateWithThreads = (threads: number) => Promise<Backend>;

export function threadLaws({ law }: LawContext, create: CreateWithThreads): void {
  law("every op gives the same bits with 1, 2 and 3 threads", async () => {
    const results: (readonly Float32Array[])[] = [];
    for (const threads of [1, 2, 3]) {
      using backend = await create(threads);
      results.push([...await matrices(backend), ...await attention(backend)]);
    }
    assertEquals(results[1], results[0]);
    assertEquals(results[2], results[0]);
  });
}

async function matrices(backend: Backend): Promise<Float32Array[]> {
  const rng = randomOf(90), results: Float32Array[] = [];
  for (const rows of [1, 3, 8, 50]) {
    const [depth, width] = [96, 131];
    using x = upload(backend, randomMatrix(rng, rows, depth));
    using gain = backend.tensor("gain", [32], "f32", randomMatrix(rng, 1, 32).data);
    const positions = Uint32Array.from({ length: rows }, (_, i) => 3 * i);
    const frequencies = Float64Array.from({ length: 16 }, (_, i) => 100 ** (-i / 16));
    const turn = { headDim: 32, layout: "half" as const, frequencies };
    const ops: ((ops: Ops) => Tensor)[] = [
      (ops) => ops.rmsNorm(x, gain, 1e-5),
      (ops) => ops.swiglu(x, x),
      (ops) => ops.add(x, x),
      (ops) => ops.rope(x, positions, turn),
    ];
    for (const op of ops) results.push(await evaluate(backend, op));
    const types = backend.quantized === undefined ? ["f32"] as const : ["f32", "q8", "q4"] as const;
    const w = randomMatrix(rng, width, depth);
    using bias = backend.tensor("bias", [width], "f32", randomMatrix(rng, 1, width).data);
    for (const type of types) {
      using weight = backend.tensor("weight", [width, depth], type, w.data);
      results.push(await evaluate(backend, (ops) => ops.linear(x, weight, bias)));
    }
  }
  return results;
}

/** Ragged tables, several rows, one of them longer than a call, one a tree. */
async function attention(backend: Backend): Promise<Float32Array[]> {
  const rng = randomOf(91), results: Float32Array[] = [];
  using world = new World(backend, { ...shape, pages: 60 });
  world.fill(rng);
  const rows = [
    world.row(rng, "kv-head", 1, [13, 6, 9, 24], range(0, 8)),
    world.row(rng, "sequence", 90, [101], range(8, 40)),
    world.row(rng, "layer", 5, [5, 11], range(40, 48)),
    { ...world.row(rng, "sequence", 3, [7], range(48, 52)), treeMask: Uint32Array.of(1, 3, 5) },
  ];
  for (let layer = 0; layer < shape.layers; layer++) {
    const input = inputOf(world.shape, rng, 99);
    results.push(await world.step(layer, rows, input));
  }
  return results;
}
