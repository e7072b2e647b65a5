/**
 * One GGUF file: metadata and tensor table are read and checked when the file is opened, tensors
 * are read and dequantised when asked for.
 *
 * Source: GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions
 * 2 and 3, little endian. Differs: as ggml's own reader does, the tensors' data must follow each
 * other in the order of the table with nothing but padding between; bytes after the last tensor
 * beyond its padding are refused.
 */
import { type GgmlType, ggmlTypeName, ggmlTypes } from "./ggml_types.ts";
import {
  type GgufMetadata,
  type MetadataOptions,
  readMetadata,
  readPairCount,
  readString,
} from "./gguf_metadata.ts";
import { quote } from "./json.ts";
import { readWeights } from "./quants.ts";
import { type ByteSource, Cursor, fileSource } from "./reader.ts";
import { elementCount, placeOfPart, requireTensor, type WeightSource } from "./weights.ts";

const MAX_TENSORS = 100_000;
const MAX_DIMENSIONS = 4;
const MAX_NAME_BYTES = 64;
const DEFAULT_ALIGNMENT = 32;
/** Name length, one character, dimension count, one dimension, type, offset. */
const MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8;

interface TensorEntry {
  readonly type: GgmlType;
  /** Outermost first; the file has them innermost first. */
  readonly shape: readonly number[];
  /** From the start of the data part. */
  readonly offset: number;
  readonly bytes: number;
  /** Where the entry starts, for messages. */
  readonly at: number;
}

/** Metadata and weights of one GGUF file. */
export interface Gguf extends Required<WeightSource> {
  readonly version: number;
  readonly metadata: GgufMetadata;
}

/** Opens the file at `path`. @throws {FormatError} see {@link readGguf} */
export function openGguf(path: string, options: MetadataOptions = {}): Gguf {
  return readGguf(fileSource(path), options);
}

/**
 * Reads everything but the weights from `source`, which the result then owns (it is closed on
 * failure as well).
 *
 * @throws {FormatError} if the file is not a complete, well-formed GGUF file of version 2 or 3
 */
export function readGguf(source: ByteSource, options: MetadataOptions = {}): Gguf {
  try {
    const cursor = new Cursor(source);
    const version = readVersion(cursor);
    const tensorCount = cursor.count("tensor count", MIN_TENSOR_BYTES, MAX_TENSORS);
    const metadata = readMetadata(cursor, readPairCount(cursor), source.name, options);
    checkNotSplit(metadata, cursor);
    const alignment = readAlignment(metadata, cursor);
    const tensors = readTensors(cursor, tensorCount, source.size);
    const dataStart = align(cursor.offset, alignment);
    checkLayout(tensors, cursor, { dataStart, alignment, size: source.size });
    return view(source, { version, metadata, tensors, dataStart });
  } catch (error) {
    source[Symbol.dispose]();
    throw error;
  }
}

function view(
  source: ByteSource,
  file: {
    readonly version: number;
    readonly metadata: GgufMetadata;
    readonly tensors: ReadonlyMap<string, TensorEntry>;
    readonly dataStart: number;
  },
): Gguf {
  const { version, metadata, tensors, dataStart } = file;
  const entry = (name: string) => requireTensor(tensors, name, source.name);
  return {
    version,
    metadata,
    names: () => tensors.keys(),
    has: (name) => tensors.has(name),
    shape: (name) => entry(name).shape,
    dtype: (name) => entry(name).type.name,
    f32(name) {
      const { offset, bytes, type } = entry(name);
      return readWeights(source, { offset: dataStart + offset, bytes }, type.name);
    },
    raw(name) {
      const { offset, bytes } = entry(name);
      return source.read(dataStart + offset, bytes);
    },
    rawInto(name, from, out) {
      const part = { offset: from, length: out.length };
      source.readInto(dataStart + placeOfPart(entry(name), part, source.name), out);
    },
    [Symbol.dispose]: () => source[Symbol.dispose](),
  };
}

function readVersion(cursor: Cursor): number {
  const magic = cursor.bytes(4, "magic");
  if (String.fromCharCode(...magic) !== "GGUF") throw cursor.error("the magic is not GGUF", 0);
  const version = cursor.u32("version");
  if (version === 2 || version === 3) return version;
  // A big-endian file has its version in the upper bytes.
  if (version !== 0 && (version & 0xffff) === 0) {
    throw cursor.error("it is a big-endian GGUF file, only little-endian ones are supported", 4);
  }
  throw cursor.error(`GGUF version ${version} is not supported, only 2 and 3 are`, 4);
}

function checkNotSplit(metadata: GgufMetadata, cursor: Cursor): void {
  const parts = metadata.number("split.count") ?? 1;
  if (parts <= 1) return;
  throw cursor.error(`it is one of ${parts} parts; split GGUF files have to be merged first`);
}

function readAlignment(metadata: GgufMetadata, cursor: Cursor): number {
  const key = "general.alignment";
  const entry = metadata.get(key);
  if (entry === undefined) return DEFAULT_ALIGNMENT;
  if (entry.type !== "u32") throw cursor.error(`${key} is of type ${entry.type}, expected u32`);
  const value = Number(entry.value);
  const power = value > 0 && (value & (value - 1)) === 0;
  if (power && value >= 8 && value <= 65_536) return value;
  throw cursor.error(`${key} is ${value}, expected a power of two from 8 to 65536`);
}

function readTensors(
  cursor: Cursor,
  count: number,
  fileSize: number,
): ReadonlyMap<string, TensorEntry> {
  const tensors = new Map<string, TensorEntry>();
  for (let i = 0; i < count; i++) {
    const at = cursor.offset;
    const budget = { stringBytes: MAX_NAME_BYTES };
    const name = readString(cursor, `name of tensor ${i}`, budget);
    if (name === "") throw cursor.error(`name of tensor ${i} is empty`, at);
    if (tensors.has(name)) throw cursor.error(`duplicate tensor name ${quote(name)}`, at);
    tensors.set(name, readEntry(cursor, name, { at, fileSize }));
  }
  return tensors;
}

function readEntry(
  cursor: Cursor,
  name: string,
  file: { readonly at: number; readonly fileSize: number },
): TensorEntry {
  const field = `tensor ${quote(name)}`;
  const dimensions = cursor.u32(`dimension count of ${field}`);
  if (dimensions < 1 || dimensions > MAX_DIMENSIONS) {
    throw cursor.error(`${field} has ${dimensions} dimensions, expected 1 to 4`, file.at);
  }
  const sizes: number[] = [];
  for (let i = 0; i < dimensions; i++) sizes.push(cursor.size(`dimension ${i} of ${field}`));
  if (sizes.includes(0)) throw cursor.error(`${field} has a dimension of 0`, file.at);

  const id = cursor.u32(`type of ${field}`);
  const type = ggmlTypes.get(id);
  if (!type) throw cursor.error(`${field} is stored as ${ggmlTypeName(id)}`, file.at);
  const row = sizes[0] ?? 0;
  if (row % type.block !== 0) {
    const what = `has rows of ${row} values, not a multiple of the ${type.name} block of`;
    throw cursor.error(`${field} ${what} ${type.block}`, file.at);
  }
  // No type packs more than eight values into a byte.
  const elements = elementCount(sizes, 8 * file.fileSize);
  if (elements === undefined) {
    throw cursor.error(`${field} has more values than the file could hold`, file.at);
  }
  const bytes = elements / type.block * type.bytes;
  const offset = cursor.size(`offset of ${field}`);
  return { type, shape: sizes.toReversed(), offset, bytes, at: file.at };
}

/** Tensors must lie one after another, each at the next aligned place, inside the file. */
function checkLayout(
  tensors: ReadonlyMap<string, TensorEntry>,
  cursor: Cursor,
  file: { readonly dataStart: number; readonly alignment: number; readonly size: number },
): void {
  let end = cursor.offset; // of the last thing read or described
  let next = file.dataStart;
  for (const [name, { offset, bytes, at }] of tensors) {
    const field = `tensor ${quote(name)}`;
    if (offset % file.alignment !== 0) {
      throw cursor.error(`offset ${offset} of ${field} is not a multiple of ${file.alignment}`, at);
    }
    if (offset !== next - file.dataStart) {
      const expected = next - file.dataStart;
      throw cursor.error(`offset of ${field} is ${offset}, expected ${expected}`, at);
    }
    end = next + bytes;
    if (end > file.size) {
      throw cursor.error(`${field} ends at ${end}, the file at ${file.size}`, at);
    }
    next = align(end, file.alignment);
  }
  if (file.size > next) {
    throw cursor.error(`${file.size - next} bytes after the last tensor`, next);
  }
}

/** The next multiple of `alignment`, computed without bit operations since it may exceed 2^32. */
function align(offset: number, alignment: number): number {
  return Math.ceil(offset / alignment) * alignment;
}
