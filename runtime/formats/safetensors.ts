/**
 * One safetensors file: the header is checked as a whole when the file is opened, tensors are read
 * when asked for.
 *
 * Source: https://github.com/huggingface/safetensors, section "Format".
 * Differs: stricter where the format leaves room. Unknown keys and types, more than four
 * dimensions and more than 100,000 tensors are refused; a tensor without dimensions is one value.
 */
import { FormatError } from "../errors.ts";
import { isJsonObject, type Json, type JsonObject, parseJson, quote } from "./json.ts";
import { readWeights } from "./quants.ts";
import { type ByteSource, Cursor, fileSource } from "./reader.ts";
import { elementCount, placeOfPart, requireTensor, type WeightSource } from "./weights.ts";

const MAX_HEADER_BYTES = 100_000_000;
const MAX_DEPTH = 4;
const MAX_DIMENSIONS = 4;
const MAX_TENSORS = 100_000;
/** A tensor has up to ten: itself, its dtype, two lists, four dimensions, two offsets. */
const MAX_VALUES = 2_000_000;
const MAX_KEY_LENGTH = 65_536;

/** Bits per value. Only F32, F16 and BF16 can be used as weights, the others only looked at. */
const dtypeBits: ReadonlyMap<string, number> = new Map([
  ["F64", 64],
  ["F32", 32],
  ["F16", 16],
  ["BF16", 16],
  ["F8_E4M3", 8],
  ["F8_E5M2", 8],
  ["F8_E8M0", 8],
  ["F6_E2M3", 6],
  ["F6_E3M2", 6],
  ["F4", 4],
  ["C64", 64],
  ["I64", 64],
  ["I32", 32],
  ["I16", 16],
  ["I8", 8],
  ["U64", 64],
  ["U32", 32],
  ["U16", 16],
  ["U8", 8],
  ["BOOL", 8],
]);

interface TensorEntry {
  readonly dtype: string;
  readonly shape: readonly number[];
  /** From the start of the file. */
  readonly offset: number;
  readonly bytes: number;
}

/** Weights of one safetensors file. */
export interface Safetensors extends Required<WeightSource> {
  /** The header's `__metadata__`. */
  readonly metadata: ReadonlyMap<string, string>;
}

/** Opens the file at `path`. @throws {FormatError} see {@link readSafetensors} */
export function openSafetensors(path: string): Safetensors {
  return readSafetensors(fileSource(path));
}

/**
 * Reads the header from `source`, which the result then owns (it is closed on failure as well).
 *
 * @throws {FormatError} if the file is not a complete, well-formed safetensors file
 */
export function readSafetensors(source: ByteSource): Safetensors {
  try {
    const { metadata, tensors } = readHeader(source);
    return view(source, metadata, tensors);
  } catch (error) {
    source[Symbol.dispose]();
    throw error;
  }
}

function view(
  source: ByteSource,
  metadata: ReadonlyMap<string, string>,
  tensors: ReadonlyMap<string, TensorEntry>,
): Safetensors {
  const entry = (name: string) => requireTensor(tensors, name, source.name);
  return {
    metadata,
    names: () => tensors.keys(),
    has: (name) => tensors.has(name),
    shape: (name) => entry(name).shape,
    dtype: (name) => entry(name).dtype,
    f32(name) {
      const { offset, bytes, dtype } = entry(name);
      return readWeights(source, { offset, bytes }, dtype);
    },
    raw(name) {
      const { offset, bytes } = entry(name);
      return source.read(offset, bytes);
    },
    rawInto(name, from, out) {
      const part = { offset: from, length: out.length };
      source.readInto(placeOfPart(entry(name), part, source.name), out);
    },
    [Symbol.dispose]: () => source[Symbol.dispose](),
  };
}

interface Header {
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
}

function readHeader(source: ByteSource): Header {
  const cursor = new Cursor(source);
  const length = cursor.size("header length", MAX_HEADER_BYTES);
  const text = cursor.utf8(length, "header");
  if (text[0] !== "{") throw cursor.error("the header does not start with {", 8);
  const header = parseJson(text, {
    source: source.name,
    maxDepth: MAX_DEPTH,
    maxValues: MAX_VALUES,
    numbers: "whole",
    baseOffset: 8,
  });
  if (!isJsonObject(header)) throw cursor.error("the header is not a JSON object", 8);
  if (header.size > MAX_TENSORS + 1) throw cursor.error(`more than ${MAX_TENSORS} tensors`, 8);

  const dataStart = 8 + length;
  const tensors = new Map<string, TensorEntry>();
  for (const [name, value] of header) {
    if (name === "__metadata__") continue;
    tensors.set(name, readEntry(name, value, { source, dataStart }));
  }
  checkNoHoles(tensors, source, dataStart);
  return { metadata: readMetadata(header.get("__metadata__"), source), tensors };
}

function readMetadata(value: Json | undefined, source: ByteSource): ReadonlyMap<string, string> {
  const metadata = new Map<string, string>();
  if (value === undefined) return metadata;
  if (!isJsonObject(value)) {
    throw new FormatError("__metadata__ is not an object", { source: source.name });
  }
  for (const [key, text] of value) {
    if (typeof text !== "string") {
      throw new FormatError(`__metadata__ ${quote(key)} is not a string`, { source: source.name });
    }
    metadata.set(key, text);
  }
  return metadata;
}

function readEntry(
  name: string,
  value: Json,
  file: { readonly source: ByteSource; readonly dataStart: number },
): TensorEntry {
  const fail = (what: string) =>
    new FormatError(`tensor ${quote(name)}: ${what}`, { source: file.source.name });
  if (name.length > MAX_KEY_LENGTH) throw fail(`the name has ${name.length} characters`);
  if (!isJsonObject(value)) throw fail("its entry is not an object");
  for (const key of value.keys()) {
    if (!["dtype", "shape", "data_offsets"].includes(key)) throw fail(`unknown key ${quote(key)}`);
  }
  const dtype = value.get("dtype");
  if (typeof dtype !== "string") throw fail("dtype is missing or not a string");
  const bits = dtypeBits.get(dtype);
  if (bits === undefined) throw fail(`unknown dtype ${quote(dtype)}`);

  const shape = numbers(value, "shape");
  if (!shape) throw fail("shape is missing or not a list of numbers");
  if (shape.length > MAX_DIMENSIONS) throw fail(`${shape.length} dimensions, at most 4 allowed`);
  const range = numbers(value, "data_offsets");
  const [begin, end] = range ?? [];
  if (begin === undefined || end === undefined || range?.length !== 2) {
    throw fail("data_offsets is missing or not two numbers");
  }
  const dataBytes = file.source.size - file.dataStart;
  if (begin > end || end > dataBytes) {
    throw fail(`data_offsets ${begin} to ${end} are not inside the ${dataBytes} data bytes`);
  }
  // Every element takes at least four bits, so a longer product cannot be in the file.
  const elements = elementCount(shape, 2 * file.source.size);
  if (elements === undefined || elements * bits !== (end - begin) * 8) {
    throw fail(`shape [${shape}] of ${dtype} does not take the ${end - begin} bytes it is given`);
  }
  return { dtype, shape, offset: file.dataStart + begin, bytes: end - begin };
}

function numbers(entry: JsonObject, key: string): readonly number[] | undefined {
  const value = entry.get(key);
  if (!Array.isArray(value)) return undefined;
  const items: readonly Json[] = value;
  const found = items.filter((item) => typeof item === "number");
  return found.length === items.length ? found : undefined;
}

/** The format requires that the tensors cover the data exactly, without holes or overlaps. */
function checkNoHoles(
  tensors: ReadonlyMap<string, TensorEntry>,
  source: ByteSource,
  dataStart: number,
): void {
  const ordered = [...tensors].sort(([, a], [, b]) => a.offset - b.offset || a.bytes - b.bytes);
  let expected = dataStart;
  for (const [name, { offset, bytes }] of ordered) {
    if (offset !== expected) {
      const what = offset < expected ? "overlaps the one before" : "leaves a hole before it";
      throw new FormatError(`tensor ${quote(name)} ${what}`, { source: source.name, offset });
    }
    expected += bytes;
  }
  if (expected !== source.size) {
    const what = `${source.size - expected} bytes after the last tensor`;
    throw new FormatError(what, { source: source.name, offset: expected });
  }
}
