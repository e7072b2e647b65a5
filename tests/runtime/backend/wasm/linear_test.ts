import { assertEquals } from "@std/assert";
import { createWasmBackend } from "../../../../runtime/backend/wasm/mod.ts";
import { evaluate, upload } from "../../../conformance/_backend_ops.ts";
import { randomMatrix, randomOf } from "../../../conformance/_backend_reference.ts";

Deno.test("linear() gives a row the same bits however many blocks the rows are cut into", async () => {
  using backend = createWasmBackend();
  const rng = randomOf(60);
  const depth = 4099, outputs = 21, rows = 37; // 16 rows of this length fit a block
  const x = randomMatrix(rng, rows, depth);
  using xt = upload(backend, x);
  using wt = upload(backend, randomMatrix(rng, outputs, depth));
  const together = await evaluate(backend, (ops) => ops.linear(xt, wt));
  for (const r of [0, 1, 14, 15, 16, 35, 36]) {
    using row = upload(backend, {
      rows: 1,
      cols: depth,
      data: x.data.slice(r * depth, (r + 1) * depth),
    });
    const alone = await evaluate(backend, (ops) => ops.linear(row, wt));
    assertEquals(alone, together.slice(r * outputs, (r + 1) * outputs), `row ${r}`);
  }
});

Deno.test("a matrix keeps its values for every op after it was used as a weight", async () => {
  using backend = createWasmBackend();
  const x = randomMatrix(randomOf(61), 6, 6);
  using xt = upload(backend, x);
  const ids = Uint32Array.of(5, 2);
  const ops = [
    () => evaluate(backend, (ops) => ops.embed(xt, ids)),
    () => evaluate(backend, (ops) => ops.gatherRows(xt, ids)),
    () => evaluate(backend, (ops) => ops.add(xt, xt)),
    () => evaluate(backend, (ops) => ops.swiglu(xt, xt)),
    () => evaluate(backend, (ops) => ops.linear(xt, xt)),
    () => backend.read(xt),
  ];
  const before: Float32Array[] = [];
  for (const op of ops) before.push(await op()); // the fifth one interleaves
  for (const [i, op] of ops.entries()) assertEquals(await op(), before[i], `op ${i}`);
  assertEquals(before.at(-1), x.data);
});
