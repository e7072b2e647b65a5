import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { signed, unsigned } from "../../../../../runtime/backend/wasm/emit/bytes.ts";
import { f32, i32 } from "../../../../../runtime/backend/wasm/emit/expr.ts";
import { type Kernel, kernel } from "../../../../../runtime/backend/wasm/emit/func.ts";
import { moduleBytes } from "../../../../../runtime/backend/wasm/emit/module.ts";
import { hasRelaxedSimd, kernelBytes } from "../../../../../runtime/backend/wasm/kernels/mod.ts";

Deno.test("unsigned() and signed() write LEB128 as the specification's examples do", () => {
  assertEquals(unsigned(0), [0]);
  assertEquals(unsigned(127), [0x7f]);
  assertEquals(unsigned(624_485), [0xe5, 0x8e, 0x26]);
  assertEquals(unsigned(2 ** 32 - 1), [0xff, 0xff, 0xff, 0xff, 0x0f]);
  assertEquals(signed(-1), [0x7f]);
  assertEquals(signed(63), [0x3f]);
  assertEquals(signed(64), [0xc0, 0x00]);
  assertEquals(signed(-123_456), [0xc0, 0xbb, 0x78]);
});

/** Runs a kernel on a memory of one page. */
function run(kernel: Kernel, ...args: number[]): Int32Array {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 65_536 });
  const module = new WebAssembly.Module(moduleBytes([kernel]));
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  const call = exports[kernel.name];
  assert(typeof call === "function");
  call(...args);
  return new Int32Array(memory.buffer);
}

Deno.test("i32.const keeps every integer", () => {
  fc.assert(fc.property(fc.integer(), (value) => {
    const store = kernel("store", { at: "i32" }, (f, { at }) => f.store(at, i32.const(value)));
    assertEquals(run(store, 8)[2], value);
  }));
});

Deno.test("Func.loop() runs while the index is below the end, not at all from the end on", () => {
  const count = kernel(
    "count",
    { from: "i32", to: "i32", step: "i32" },
    (f, { from, to, step }) => {
      const trips = f.local("i32");
      f.loop(from, to, step, () => f.advance(trips, 1));
      f.store(i32.const(0), trips);
      f.store(i32.const(4), from);
    },
  );
  for (const [from, to, step] of [[0, 10, 3], [0, 9, 3], [5, 5, 1], [7, 5, 1], [0, 1, 16]]) {
    let trips = 0, index = from!;
    for (; index < to!; index += step!) trips++;
    assertEquals([...run(count, from!, to!, step!).subarray(0, 2)], [trips, index]);
  }
});

Deno.test("Func.if() takes one of two ways", () => {
  const choose = kernel("choose", { a: "i32" }, (f, { a }) => {
    const out = f.local("i32", i32.const(1));
    f.if(a, () => f.set(out, i32.const(2)), () => f.set(out, i32.const(3)));
    f.if(i32.eqz(a), () => f.advance(out, 10));
    f.store(i32.const(0), out);
  });
  assertEquals([run(choose, 5)[0], run(choose, 0)[0]], [2, 13]);
});

Deno.test("kernel() keeps the order and types of parameters", () => {
  const mix = kernel("mix", { a: "f32", at: "i32", b: "f32" }, (f, { a, at, b }) => {
    f.store(at, f32.sub(a, b));
  });
  const memory = run(mix, 1.5, 16, 0.25);
  assertEquals(new Float32Array(memory.buffer)[4], 1.25);
});

Deno.test("moduleBytes() of ill-typed code does not compile", () => {
  const wrong = kernel("wrong", {}, (f) => f.store({ type: "i32", code: [] }, i32.const(1)));
  assert(!WebAssembly.validate(moduleBytes([wrong])));
  assertThrows(() => run(wrong), WebAssembly.CompileError);
});

Deno.test("kernelBytes() is valid and the same each time", () => {
  for (const [relaxed, shared] of [[false, false], [true, false], [false, true], [true, true]]) {
    const options = { relaxed: relaxed!, shared: shared! };
    const bytes = kernelBytes(options);
    assertEquals(kernelBytes(options), bytes);
    assertEquals(WebAssembly.validate(bytes), !relaxed || hasRelaxedSimd());
  }
});
