/** Small writers of valid and, on purpose, of invalid model files. */

/** Appends little-endian fields. */
export class ByteWriter {
  #bytes: number[] = [];

  get length(): number {
    return this.#bytes.length;
  }
  raw(bytes: Iterable<number>): this {
    for (const byte of bytes) this.#bytes.push(byte);
    return this;
  }
  u8(value: number): this {
    return this.raw([value & 255]);
  }
  u32(value: number): this {
    return this.raw(new Uint8Array(Uint32Array.of(value).buffer));
  }
  u64(value: number | bigint): this {
    return this.raw(new Uint8Array(BigUint64Array.of(BigInt(value)).buffer));
  }
  text(value: string): this {
    return this.raw(new TextEncoder().encode(value));
  }
  /** A GGUF string. */
  string(value: string): this {
    const bytes = new TextEncoder().encode(value);
    return this.u64(bytes.length).raw(bytes);
  }
  pad(alignment: number): this {
    while (this.length % alignment !== 0) this.u8(0);
    return this;
  }
  bytes(): Uint8Array<ArrayBuffer> {
    return Uint8Array.from(this.#bytes);
  }
}

export const ggufTypeIds = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
} as const;
type ScalarType = Exclude<keyof typeof ggufTypeIds, "array">;
type Scalar = number | bigint | boolean | string;

export interface GgufPair {
  readonly key: string;
  readonly type: ScalarType;
  /** A list is written as an array of `type`. */
  readonly value: Scalar | readonly Scalar[];
}
export interface GgufTensor {
  readonly name: string;
  /** Innermost first, as in the file. */
  readonly sizes: readonly (number | bigint)[];
  readonly type: number;
  readonly data: Uint8Array;
  /** Offset and dimension count to write instead of the right ones. */
  readonly offset?: number | bigint;
  readonly dimensions?: number;
}
export interface GgufFile {
  readonly magic?: string;
  readonly version?: number;
  readonly pairs?: readonly GgufPair[];
  readonly tensors?: readonly GgufTensor[];
  readonly alignment?: number;
  /** Counts to write instead of the right ones. */
  readonly pairCount?: number | bigint;
  readonly tensorCount?: number | bigint;
}

/** A GGUF file; without overrides a valid one, the last tensor padded. */
export function ggufBytes(file: GgufFile): Uint8Array<ArrayBuffer> {
  const { pairs = [], tensors = [], alignment = 32 } = file;
  const out = new ByteWriter().text(file.magic ?? "GGUF").u32(file.version ?? 3);
  out.u64(file.tensorCount ?? tensors.length).u64(file.pairCount ?? pairs.length);
  for (const pair of pairs) writePair(out, pair);
  let offset = 0;
  for (const tensor of tensors) {
    out.string(tensor.name).u32(tensor.dimensions ?? tensor.sizes.length);
    for (const size of tensor.sizes) out.u64(size);
    out.u32(tensor.type).u64(tensor.offset ?? offset);
    offset = Math.ceil((offset + tensor.data.length) / alignment) * alignment;
  }
  for (const { data } of tensors) out.pad(alignment).raw(data);
  return (tensors.length > 0 ? out.pad(alignment) : out).bytes();
}

/** Writes key, type and value. */
export function writePair(out: ByteWriter, { key, type, value }: GgufPair): void {
  out.string(key);
  if (typeof value !== "object") {
    writeScalar(out.u32(ggufTypeIds[type]), type, value);
    return;
  }
  out.u32(ggufTypeIds.array).u32(ggufTypeIds[type]).u64(value.length);
  for (const item of value) writeScalar(out, type, item);
}

function writeScalar(out: ByteWriter, type: ScalarType, value: Scalar): void {
  if (type === "string") {
    out.string(String(value));
    return;
  }
  const view = new DataView(new ArrayBuffer(8));
  const number = Number(value);
  const size = {
    u8: () => (view.setUint8(0, number), 1),
    i8: () => (view.setInt8(0, number), 1),
    u16: () => (view.setUint16(0, number, true), 2),
    i16: () => (view.setInt16(0, number, true), 2),
    u32: () => (view.setUint32(0, number, true), 4),
    i32: () => (view.setInt32(0, number, true), 4),
    f32: () => (view.setFloat32(0, number, true), 4),
    bool: () => (view.setUint8(0, number), 1),
    u64: () => (view.setBigUint64(0, BigInt(value), true), 8),
    i64: () => (view.setBigInt64(0, BigInt(value), true), 8),
    f64: () => (view.setFloat64(0, number, true), 8),
  }[type]();
  out.raw(new Uint8Array(view.buffer, 0, size));
}

/** A safetensors file with this header text and data. */
export function safetensorsFile(header: string, data: Uint8Array): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(header);
  return new ByteWriter().u64(text.length).raw(text).raw(data).bytes();
}

export interface SafetensorsTensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** A valid safetensors file. */
export function safetensorsBytes(
  tensors: Readonly<Record<string, SafetensorsTensor>>,
  metadata?: Readonly<Record<string, string>>,
): Uint8Array<ArrayBuffer> {
  const entries: [string, unknown][] = metadata ? [["__metadata__", metadata]] : [];
  const data = new ByteWriter();
  for (const [name, tensor] of Object.entries(tensors)) {
    const begin = data.length;
    data.raw(tensor.data);
    const { dtype, shape } = tensor;
    entries.push([name, { dtype, shape, data_offsets: [begin, data.length] }]);
  }
  return safetensorsFile(JSON.stringify(Object.fromEntries(entries)), data.bytes());
}

/** The bytes of f32 values. */
export function f32Bytes(...values: number[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Float32Array.from(values).buffer);
}
