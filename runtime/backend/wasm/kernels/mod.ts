/** All kernels as one module, emitted and compiled once. */
import { f32x4, v128 } from "../emit/expr.ts";
import { kernel } from "../emit/func.ts";
import { moduleBytes } from "../emit/module.ts";
import { attention } from "./attention.ts";
import { add, swiglu } from "./elementwise.ts";
import { interleave } from "./interleave.ts";
import { keyCounts, keyMasses, weightSum } from "./key_buckets.ts";
import { linear } from "./linear.ts";
import { linearBlocks } from "./linear_blocks.ts";
import { noiseScan } from "./noise_scan.ts";
import { packQ4, packQ8 } from "./pack.ts";
import { quantizers } from "./quantize.ts";
import { rmsNorm } from "./rms_norm.ts";
import { rope } from "./rope.ts";
import { rowStats } from "./row_stats.ts";
import { collect, groupMax, maskRow } from "./select.ts";

/** The exported functions; parameters as each kernel's file says, addresses in bytes. */
export interface Kernels {
  readonly add: NumberFunction;
  readonly swiglu: NumberFunction;
  readonly rmsNorm: NumberFunction;
  readonly rope: NumberFunction;
  readonly interleave: NumberFunction;
  readonly linear: NumberFunction;
  readonly quantize8: NumberFunction;
  readonly quantize7: NumberFunction;
  readonly packQ8: NumberFunction;
  readonly packQ4: NumberFunction;
  readonly linearQ8: NumberFunction;
  readonly linearQ4: NumberFunction;
  readonly attention: NumberFunction;
  readonly rowStats: NumberFunction;
  readonly noiseScan: NumberFunction;
  readonly groupMax: NumberFunction;
  readonly collect: NumberFunction;
  readonly maskRow: NumberFunction;
  readonly weightSum: NumberFunction;
  readonly keyCounts: NumberFunction;
  readonly keyMasses: NumberFunction;
}

/** A kernel as JavaScript calls it. */
export type NumberFunction = (...args: number[]) => void;

/** Which module. Results are the same for all. */
export interface KernelOptions {
  /** With relaxed SIMD. */
  readonly relaxed: boolean;
  /** For a memory that threads share. */
  readonly shared: boolean;
}

/** The bytes of the module. */
export function kernelBytes({ relaxed, shared }: KernelOptions): Uint8Array<ArrayBuffer> {
  const always = [add, swiglu, rmsNorm, rope, interleave, linear, attention];
  const selection = [groupMax, collect, maskRow, weightSum, keyCounts, keyMasses];
  const sampling = [rowStats, noiseScan, ...selection];
  const integers = [...quantizers(relaxed), packQ8, packQ4, ...linearBlocks(relaxed)];
  return moduleBytes([...always, ...sampling, ...integers], { shared });
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

const compiled = new Map<string, WebAssembly.Module>();

/** The compiled module; the same one for the same options. */
export function kernelModule(options: KernelOptions): WebAssembly.Module {
  const key = JSON.stringify([options.relaxed, options.shared]);
  let module = compiled.get(key);
  if (module === undefined) {
    compiled.set(key, module = new WebAssembly.Module(kernelBytes(options)));
  }
  return module;
}

/** Names in the module. */
const exportNames: Readonly<Record<keyof Kernels, string>> = {
  add: "add",
  swiglu: "swiglu",
  rmsNorm: "rms_norm",
  rope: "rope",
  interleave: "interleave",
  linear: "linear",
  quantize8: "quantize8",
  quantize7: "quantize7",
  packQ8: "pack_q8",
  packQ4: "pack_q4",
  linearQ8: "linear_q8",
  linearQ4: "linear_q4",
  attention: "attention",
  rowStats: "row_stats",
  noiseScan: "noise_scan",
  groupMax: "group_max",
  collect: "collect",
  maskRow: "mask_row",
  weightSum: "weight_sum",
  keyCounts: "key_counts",
  keyMasses: "key_masses",
};

/** All kernels, numbered for threads. */
export const kernelNames = Object.keys(exportNames) as readonly (keyof Kernels)[];

/** Whether the module uses relaxed SIMD: then its kernels over integers take activations as bytes. */
export function isRelaxed(module: WebAssembly.Module): boolean {
  return WebAssembly.Module.exports(module).some(({ name }) => name === exportNames.linearQ4);
}

/** Names of the kernels in a module, in the order of {@link kernelNames}. */
export function moduleNames(module: WebAssembly.Module): readonly string[] {
  const names = new Set(WebAssembly.Module.exports(module).map(({ name }) => name));
  return kernelNames.map((kernel) => {
    const name = exportNames[kernel], strict = `${name}_strict`;
    if (names.has(name)) return name;
    if (names.has(strict)) return strict;
    throw new TypeError(`The module has no kernel ${name}`);
  });
}

/** Kernels that work on `memory`. @throws {TypeError} if the module lacks one */
export function instantiate(module: WebAssembly.Module, memory: WebAssembly.Memory): Kernels {
  const names = moduleNames(module);
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  const kernels = kernelNames.map((kernel, i) => [kernel, exports[names[i]!] as NumberFunction]);
  return Object.fromEntries(kernels) as Record<keyof Kernels, NumberFunction>;
}
