/** All kernels as one module, emitted and compiled once. */
import { f32x4, v128 } from "../emit/expr.ts";
import { kernel } from "../emit/func.ts";
import { moduleBytes } from "../emit/module.ts";
import { attention } from "./attention.ts";
import { add, swiglu } from "./elementwise.ts";
import { interleave } from "./interleave.ts";
import { linear } from "./linear.ts";
import { linearBlocks } from "./linear_blocks.ts";
import { quantize } from "./quantize.ts";
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
  readonly quantize: NumberFunction;
  readonly linearQ8: NumberFunction;
  readonly linearQ4: NumberFunction;
  readonly attention: NumberFunction;
}

/** A kernel as JavaScript calls it. */
export type NumberFunction = (...args: number[]) => void;

/** The bytes of the module, with or without relaxed SIMD; both give the same results. */
export function kernelBytes(relaxed: boolean): Uint8Array<ArrayBuffer> {
  const always = [add, swiglu, rmsNorm, rope, interleave, linear, quantize, attention];
  return moduleBytes([...always, ...linearBlocks(relaxed)]);
}

/** Whether this engine runs 128-bit SIMD. */
export function hasSimd(): boolean {
  const probe = kernel("probe", { at: "i32" }, (f, { at }) => {
    f.store(at, f32x4.add(v128.load(at), v128.load(at)));
  });
  return WebAssembly.validate(moduleBytes([probe]));
}

/** Whether this engine runs relaxed SIMD. */
export function hasRelaxedSimd(): boolean {
  return WebAssembly.validate(moduleBytes(linearBlocks(true)));
}

/** By whether they use relaxed SIMD. */
const compiled = new Map<boolean, WebAssembly.Module>();

/** Kernels that work on `memory`. */
export function instantiate(memory: WebAssembly.Memory, relaxed: boolean): Kernels {
  let module = compiled.get(relaxed);
  if (module === undefined) {
    compiled.set(relaxed, module = new WebAssembly.Module(kernelBytes(relaxed)));
  }
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
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
    quantize: get("quantize"),
    linearQ8: get("linear_q8"),
    linearQ4: get("linear_q4"),
    attention: get("attention"),
  };
}
