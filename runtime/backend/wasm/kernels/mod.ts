/** All kernels as one module, emitted and compiled once. */
import { f32x4, v128 } from "../emit/expr.ts";
import { kernel } from "../emit/func.ts";
import { moduleBytes } from "../emit/module.ts";
import { attention } from "./attention.ts";
import { add, swiglu } from "./elementwise.ts";
import { interleave } from "./interleave.ts";
import { linear } from "./linear.ts";
import { rmsNorm } from "./rms_norm.ts";
import { rope } from "./rope.ts";

/** The exported functions; parameters as each kernel's file says, addresses in bytes. */
export interface Kernels {
  readonly add: NumberFunction;
  readonly swiglu: NumberFunction;
  readonly rmsNorm: NumberFunction;
  readonly rope: NumberFunction;
  readonly interleave: NumberFunction;
  readonly linear: NumberFunction;
  readonly attention: NumberFunction;
}

/** A kernel as JavaScript calls it. */
export type NumberFunction = (...args: number[]) => void;

/** The bytes of the module. */
export function kernelBytes(): Uint8Array<ArrayBuffer> {
  return moduleBytes([add, swiglu, rmsNorm, rope, interleave, linear, attention]);
}

/** Whether this engine runs 128-bit SIMD. */
export function hasSimd(): boolean {
  const probe = kernel("probe", { at: "i32" }, (f, { at }) => {
    f.store(at, f32x4.add(v128.load(at), v128.load(at)));
  });
  return WebAssembly.validate(moduleBytes([probe]));
}

let compiled: WebAssembly.Module | undefined;

/** Kernels that work on `memory`. */
export function instantiate(memory: WebAssembly.Memory): Kernels {
  compiled ??= new WebAssembly.Module(kernelBytes());
  const { exports } = new WebAssembly.Instance(compiled, { env: { memory } });
  const get = (name: string): NumberFunction => {
    const found = exports[name];
    if (typeof found !== "function") throw new TypeError(`There is no kernel ${name}`);
    return (found as NumberFunction);
  };
  return {
    add: get("add"),
    swiglu: get("swiglu"),
    rmsNorm: get("rms_norm"),
    rope: get("rope"),
    interleave: get("interleave"),
    linear: get("linear"),
    attention: get("attention"),
  };
}
