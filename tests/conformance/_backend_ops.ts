/** Laws of the ops that work on whole rows, and of tensors. */
import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import type { Backend, Ops, Tensor } from "../../runtime/backend/backend.ts";
import { ShapeError } from "../../runtime/errors.ts";
import type { LawContext } from "./backend.ts";
import * as reference from "./_backend_reference.ts";
import { type Matrix, randomMatrix, randomOf } from "./_backend_reference.ts";

const rowCounts = [1, 2, 3, 5, 8];
const depths = [1, 2, 3, 7, 64, 65, 129];
const widths = [1, 2, 3, 4, 5, 31, 64];

/** Runs one op and reads its result. */
export async function evaluate(
  backend: Backend,
  build: (ops: Ops) => Tensor,
): Promise<Float32Array> {
  using result = backend.record(build);
  return await backend.read(result);
}

/** Uploads a matrix. */
export function upload(backend: Backend, { rows, cols, data }: Matrix): Tensor {
  return backend.tensor("test", [rows, cols], "f32", data);
}

function vector(backend: Backend, data: Float32Array): Tensor {
  return backend.tensor("test", [data.length], "f32", data);
}

/** The first `rows` rows from row `start`. */
function rowsOf({ cols, data }: Matrix, start: number, rows: number): Matrix {
  return { rows, cols, data: data.slice(start * cols, (start + rows) * cols) };
}

export function opLaws(context: LawContext): void {
  tensorLaws(context);
  valueLaws(context);
  independenceLaws(context);
}

function tensorLaws({ law }: LawContext): void {
  law("tensor() keeps values and read() gives a copy", async (backend) => {
    const x = randomMatrix(randomOf(1), 3, 5);
    using tensor = upload(backend, x);
    assertEquals(tensor.shape, [3, 5]);
    const first = await backend.read(tensor);
    assertEquals(first, x.data);
    first.fill(7);
    assertEquals(await backend.read(tensor), x.data);
    using zeros = backend.tensor("zeros", [2, 2], "f32");
    assertEquals(await backend.read(zeros), new Float32Array(4));
  });

  law("tensor() refuses data of another length than its shape", (backend) => {
    assertThrows(() => backend.tensor("test", [2, 3], "f32", new Float32Array(5)), RangeError);
    return Promise.resolve();
  });

  law("record() keeps the tensors it returns and frees the others", async (backend) => {
    using x = upload(backend, randomMatrix(randomOf(2), 2, 4));
    const temporaries: Tensor[] = [];
    const { kept } = backend.record((ops) => {
      temporaries.push(ops.add(x, x));
      return { kept: new Map([[1, ops.add(temporaries[0]!, x)]]) };
    });
    using sum = kept.get(1)!;
    const before = await backend.read(sum);
    // Later work may use the freed memory, but not the kept tensor's.
    await evaluate(backend, (ops) => ops.add(ops.add(x, x), ops.add(x, x)));
    assertEquals(await backend.read(sum), before);
    await assertRejects(async () => await backend.read(temporaries[0]!));
  });

  law("ops refuse shapes that do not go together", (backend) => {
    using a = backend.tensor("a", [2, 3], "f32");
    using b = backend.tensor("b", [2, 4], "f32");
    using bias = backend.tensor("bias", [3], "f32");
    const refuse = (build: (ops: Ops) => unknown) =>
      assertThrows(() => backend.record(build), ShapeError);
    refuse((ops) => ops.add(a, b));
    refuse((ops) => ops.swiglu(a, b));
    refuse((ops) => ops.linear(a, b));
    refuse((ops) => ops.linear(b, b, bias));
    refuse((ops) => ops.rmsNorm(b, bias, 1e-5));
    return Promise.resolve();
  });

  law("embed() and gatherRows() pick rows and refuse unknown ones", async (backend) => {
    const x = randomMatrix(randomOf(3), 7, 5);
    using table = upload(backend, x);
    const ids = Uint32Array.of(6, 0, 3, 3);
    const expected = Float32Array.from([...ids].flatMap((id) => [...rowsOf(x, id, 1).data]));
    assertEquals(await evaluate(backend, (ops) => ops.embed(table, ids)), expected);
    assertEquals(await evaluate(backend, (ops) => ops.gatherRows(table, ids)), expected);
    const wrong = Uint32Array.of(7);
    assertThrows(() => backend.record((ops) => ops.embed(table, wrong)), RangeError);
    assertThrows(() => backend.record((ops) => ops.gatherRows(table, wrong)), RangeError);
  });
}

function valueLaws({ law, assertClose }: LawContext): void {
  law("linear() equals f64 loops for every shape", async (backend) => {
    const rng = randomOf(4);
    for (const rows of rowCounts) {
      for (const depth of depths) {
        for (const width of widths) {
          const x = randomMatrix(rng, rows, depth), w = randomMatrix(rng, width, depth);
          const b = randomMatrix(rng, 1, width).data;
          using xt = upload(backend, x);
          using wt = upload(backend, w);
          using bt = vector(backend, b);
          const plain = await evaluate(backend, (ops) => ops.linear(xt, wt));
          assertClose(plain, reference.linear(x, w), depth);
          const biased = await evaluate(backend, (ops) => ops.linear(xt, wt, bt));
          assertClose(biased, reference.linear(x, w, b), depth + 1);
        }
      }
    }
  });

  law("rmsNorm() equals f64 loops, over whole rows and per head", async (backend) => {
    const rng = randomOf(5);
    for (const [rows, cols, heads] of [[1, 1, 1], [2, 7, 1], [3, 64, 1], [5, 16, 3], [1, 129, 2]]) {
      const x = randomMatrix(rng, rows!, cols! * heads!);
      const weight = randomMatrix(rng, 1, cols!).data;
      using xt = upload(backend, x);
      using wt = vector(backend, weight);
      const actual = await evaluate(backend, (ops) => ops.rmsNorm(xt, wt, 1e-5));
      assertClose(actual, reference.rmsNorm(x.data, weight, 1e-5), cols!);
    }
  });

  law("rmsNorm() of a row of zeros is zero", async (backend) => {
    using x = backend.tensor("x", [1, 8], "f32");
    using weight = vector(backend, new Float32Array(8).fill(1));
    const actual = await evaluate(backend, (ops) => ops.rmsNorm(x, weight, 1e-6));
    assertEquals([...actual].map(Math.abs), new Array(8).fill(0));
  });

  law("add() and swiglu() equal f64 loops, far from zero as well", async (backend) => {
    const a = Float32Array.of(-1000, -100, -20, -1, -0.001, 0, 0.5, 3, 50, 1000, 1e30, -1e30);
    const b = Float32Array.of(3, -2, 1, 0.5, 7, -3, 2, 0.25, -1, 1, 2, -2);
    using at = backend.tensor("a", [3, 4], "f32", a);
    using bt = backend.tensor("b", [3, 4], "f32", b);
    const sum = await evaluate(backend, (ops) => ops.add(at, bt));
    assertClose(sum, Array.from(a, (x, i) => reference.exactly(x + b[i]!)), 2);
    const gated = await evaluate(backend, (ops) => ops.swiglu(at, bt));
    assertClose(gated, reference.swiglu(a, b), 2);
  });

  for (const layout of ["half", "pairs"] as const) {
    law(`rope() in layout "${layout}" equals f64 loops`, async (backend) => {
      const rng = randomOf(6);
      for (const [headDim, heads] of [[2, 1], [6, 3], [32, 2], [64, 1]]) {
        const frequencies = Float64Array.from(
          { length: headDim! / 2 },
          (_, i) => 10_000 ** (-2 * i / headDim!),
        );
        const spec = { headDim: headDim!, layout, frequencies };
        const positions = Uint32Array.of(0, 1, 17, 1023, 17);
        const x = randomMatrix(rng, positions.length, headDim! * heads!);
        using xt = upload(backend, x);
        const actual = await evaluate(backend, (ops) => ops.rope(xt, positions, spec));
        // Two products, and a sine and cosine that are themselves rounded.
        assertClose(actual, reference.rope(x, positions, spec), 4);
        assertEquals(actual.slice(0, x.cols), x.data.slice(0, x.cols), "position 0 stays");
        assertNotEquals(actual.slice(x.cols), x.data.slice(x.cols));
      }
    });
  }
}

function independenceLaws({ law }: LawContext): void {
  law("a row's result is the same to the bit alone and among 2 to 8 rows", async (backend) => {
    const rng = randomOf(7);
    for (const [depth, width] of [[65, 31], [64, 64], [7, 5]]) {
      const x = randomMatrix(rng, 8, depth!), w = randomMatrix(rng, width!, depth!);
      using wt = upload(backend, w);
      using gain = vector(backend, randomMatrix(rng, 1, depth!).data);
      const ops: Record<string, (ops: Ops, x: Tensor) => Tensor> = {
        linear: (ops, x) => ops.linear(x, wt),
        rmsNorm: (ops, x) => ops.rmsNorm(x, gain, 1e-5),
        swiglu: (ops, x) => ops.swiglu(x, x),
      };
      for (const [name, build] of Object.entries(ops)) {
        const run = async (start: number, rows: number) => {
          using part = upload(backend, rowsOf(x, start, rows));
          return await evaluate(backend, (ops) => build(ops, part));
        };
        const alone = await Promise.all(Array.from({ length: 8 }, (_, r) => run(r, 1)));
        for (let rows = 2; rows <= 8; rows++) {
          for (let start = 0; start + rows <= 8; start++) {
            const together = await run(start, rows);
            const expected = alone.slice(start, start + rows).flatMap((row) => [...row]);
            assertEquals([...together], expected, `${name}, rows ${start} to ${start + rows - 1}`);
          }
        }
      }
    }
  });

  law("ops leave their arguments as they were", async (backend) => {
    const x = randomMatrix(randomOf(8), 3, 8);
    using xt = upload(backend, x);
    using gain = vector(backend, new Float32Array(8).fill(2));
    const spec = { headDim: 8, layout: "half" as const, frequencies: Float64Array.of(1, 1, 1, 1) };
    const made = backend.record((ops) => [
      ops.add(xt, xt),
      ops.swiglu(xt, xt),
      ops.rmsNorm(xt, gain, 1e-5),
      ops.rope(xt, Uint32Array.of(1, 2, 3), spec),
      ops.linear(xt, xt),
    ]);
    assert(made.length === 5);
    assertEquals(await backend.read(xt), x.data);
    for (const tensor of made) tensor[Symbol.dispose]();
  });
}
