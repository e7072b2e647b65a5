/** KernelSpec: what a WGSL file's header says, as code; and how parameters are packed for it. */

/** How a kernel uses a binding: its parameters, memory it reads, memory it writes (and may read). */
export type BindingKind = "params" | "read" | "write";

/** Type of one 4-byte field of a parameter block. */
export type FieldType = "u32" | "f32";

/** Override constants of a pipeline; true is 1. */
export type Constants = Readonly<Record<string, number>>;

/** One kernel: one WGSL file with one entry point, `main`. */
export interface KernelSpec {
  /** Name of the file without its ending. */
  readonly name: string;
  readonly source: string;
  /** In the order of their numbers, from 0. */
  readonly bindings: readonly (readonly [name: string, kind: BindingKind])[];
  /** Fields of `Params` in order; nested structures are written out. */
  readonly params: readonly (readonly [name: string, type: FieldType])[];
  /** Override constants and the values they may take; the first is the file's default. */
  readonly overrides: Readonly<Record<string, readonly number[]>>;
  /** Whether it has subgroup operations, which not every device has. */
  readonly usesSubgroups: boolean;
  /** The kernel this one is {@link inHalf} of. */
  readonly full?: KernelSpec;
}

/** What a line of {@link defineKernel} leaves out is empty. */
export interface KernelLine {
  readonly bindings: string;
  /** Fields; those ending in ":f32" are floats. */
  readonly params: string;
  readonly overrides?: Readonly<Record<string, readonly number[]>>;
}

/**
 * A spec from one line. Bindings are names separated by blanks, those the kernel writes end in "*";
 * the first one is always `params`.
 */
export function defineKernel(name: string, source: string, line: KernelLine): KernelSpec {
  const bindings = line.bindings.split(" ").map((text) => {
    const binding = text.replace("*", "");
    return [binding, text === "params" ? "params" : text.endsWith("*") ? "write" : "read"] as const;
  });
  const params = line.params.split(" ").map((text) => {
    const [field, type] = text.split(":");
    return [field!, type === "f32" ? "f32" : "u32"] as const;
  });
  const usesSubgroups = /\bsubgroup[A-Z]/.test(source);
  return { name, source, bindings, params, overrides: line.overrides ?? {}, usesSubgroups };
}

const halves = new WeakMap<KernelSpec, KernelSpec>();
const ALIAS = /^alias Kv = f32;$/m;

/** Whether a kernel's keys and values may be stored in f16. */
export function mayBeHalf({ source }: KernelSpec): boolean {
  return ALIAS.test(source);
}

/**
 * The kernel with keys and values stored in f16. Only its `alias` line changes, and lines keep their
 * numbers.
 *
 * @throws {RangeError} if the kernel has no such line
 */
export function inHalf(full: KernelSpec): KernelSpec {
  let half = halves.get(full);
  if (half !== undefined) return half;
  if (!mayBeHalf(full)) throw new RangeError(`Kernel ${full.name} has no variant in f16`);
  const source = `enable f16; ${full.source.replace(ALIAS, "alias Kv = f16;")}`;
  halves.set(full, half = { ...full, source, full });
  return half;
}

/**
 * The pipeline constants of a variant. Kernels vary by override constants, and those that keys and values
 * are bound to by {@link inHalf}; every file compiles as it stands.
 *
 * @throws {RangeError} if the kernel has no such constant or it may not take the value
 */
export function specialize(spec: KernelSpec, constants: Constants): Constants {
  for (const [name, value] of Object.entries(constants)) {
    if (!spec.overrides[name]?.includes(value)) {
      throw new RangeError(`Kernel ${spec.name} has no variant ${name} = ${value}`);
    }
  }
  return constants;
}

/**
 * Parameter values as the words of a uniform buffer, padded to 16 bytes.
 *
 * @throws {RangeError} if the number of values is not the number of fields
 */
export function packParams(spec: KernelSpec, values: readonly number[]): Uint32Array<ArrayBuffer> {
  if (values.length !== spec.params.length) {
    throw new RangeError(
      `Kernel ${spec.name} takes ${spec.params.length} parameters, got ${values.length}`,
    );
  }
  const words = new Uint32Array(Math.ceil(values.length / 4) * 4);
  const floats = new Float32Array(words.buffer);
  values.forEach((value, i) => {
    if (spec.params[i]![1] === "f32") floats[i] = value;
    else words[i] = value;
  });
  return words;
}
