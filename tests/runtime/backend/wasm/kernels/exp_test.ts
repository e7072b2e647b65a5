import { assert, assertEquals } from "@std/assert";
import { v128 } from "../../../../../runtime/backend/wasm/emit/expr.ts";
import { kernel } from "../../../../../runtime/backend/wasm/emit/func.ts";
import { moduleBytes } from "../../../../../runtime/backend/wasm/emit/module.ts";
import {
  expConstants,
  exponential,
  plus,
} from "../../../../../runtime/backend/wasm/kernels/_exp.ts";

const exps = (["any", "negative"] as const).map((range) =>
  kernel(range, { x: "i32", bytes: "i32" }, (f, { x, bytes }) => {
    const i = f.local("i32"), constants = expConstants(f);
    f.loop(i, bytes, 16, () => {
      f.store(plus(x, i), exponential(f, v128.load(plus(x, i)), constants, range));
    });
  })
);

function run(values: readonly number[], range = "any"): number[] {
  const memory = new WebAssembly.Memory({ initial: 16, maximum: 65_536 });
  const module = new WebAssembly.Module(moduleBytes(exps));
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  const floats = new Float32Array(memory.buffer, 0, Math.ceil(values.length / 4) * 4);
  floats.set(values);
  const call = exports[range];
  assert(typeof call === "function");
  call(0, floats.byteLength);
  return [...floats.subarray(0, values.length)];
}

Deno.test("exponential() is within two units in the last place of e^x", () => {
  const xs = Array.from({ length: 200_000 }, (_, i) => Math.fround(-87.3 + i * 176 / 200_000));
  let worst = 0;
  for (const [i, actual] of run(xs).entries()) {
    const exact = Math.exp(xs[i]!);
    const unit = 2 ** (Math.floor(Math.log2(exact)) - 23);
    worst = Math.max(worst, Math.abs(actual - exact) / unit);
  }
  assert(worst < 2, `${worst} units`);
});

Deno.test("exponential() is exact at 0 and saturates at both ends", () => {
  assertEquals(
    run([0, 89, 1e30, Infinity, -88, -1e30, -Infinity, NaN, -0]),
    [1, Infinity, Infinity, Infinity, 0, 0, 0, NaN, 1],
  );
});

Deno.test("exponential() of numbers up to 0 is the same to the bit without the steps for large ones", () => {
  const xs = Array.from({ length: 100_000 }, (_, i) => -i / 1100).concat(-Infinity, NaN);
  assertEquals(run(xs, "negative"), run(xs));
});
