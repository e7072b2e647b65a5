/**
 * The key-value part of a GGUF file.
 *
 * Source: GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md,
 * "File Structure". Differs: arrays of arrays, booleans other than 0 and 1 and malformed UTF-8 are
 * refused; sizes are capped.
 */
import { FormatError } from "../errors.ts";
import { quote } from "./json.ts";
import type { Cursor } from "./reader.ts";

const MAX_KEY_BYTES = 65_536;
const MAX_STRING_BYTES = 64 * 1024 * 1024;
const MAX_PAIRS = 1_000_000;
/** Of all arrays together; a vocabulary of 256,000 pieces needs about a million. */
const MAX_ARRAY_ITEMS = 16 * 1024 * 1024;
/** Key length, one character, type, one byte of value. */
const MIN_PAIR_BYTES = 8 + 1 + 4 + 1;

/** Type names in the order of their ids. */
const typeNames = [
  "u8",
  "i8",
  "u16",
  "i16",
  "u32",
  "i32",
  "f32",
  "bool",
  "string",
  "array",
  "u64",
  "i64",
  "f64",
] as const;
export type GgufTypeName = (typeof typeNames)[number];
type ItemType = Exclude<GgufTypeName, "array">;

/** 64-bit integers are numbers where they fit 2^53 - 1, and bigints otherwise. */
export type GgufScalar = number | bigint | boolean | string;
export type GgufArray =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array
  | readonly boolean[]
  | readonly string[];
export type GgufEntry =
  | { readonly type: ItemType; readonly value: GgufScalar }
  | { readonly type: "array"; readonly itemType: ItemType; readonly value: GgufArray };

/**
 * Typed look-up. Each method gives undefined for an absent key and throws a FormatError if the key
 * has another type.
 */
export interface GgufMetadata {
  keys(): Iterable<string>;
  has(key: string): boolean;
  get(key: string): GgufEntry | undefined;
  string(key: string): string | undefined;
  /** Any integer or float type; integers beyond 2^53 - 1 are refused. */
  number(key: string): number | undefined;
  boolean(key: string): boolean | undefined;
  strings(key: string): readonly string[] | undefined;
  /** Any integer or float item type; integers beyond 2^53 - 1 are refused. */
  numbers(key: string): readonly number[] | undefined;
}

/** What is left for all strings and all arrays of the metadata together. */
interface Budget {
  stringBytes: number;
  arrayItems: number;
}

/** Reads the number of pairs, which stands before the pairs. @throws {FormatError} */
export function readPairCount(cursor: Cursor): number {
  return cursor.count("metadata pair count", MIN_PAIR_BYTES, MAX_PAIRS);
}

/** What of the metadata is wanted. */
export interface MetadataOptions {
  /**
   * Keys that start so are left out, and the strings of their arrays are not even decoded: a vocabulary
   * takes tens of megabytes. @default everything is read
   */
  readonly without?: string;
}

/**
 * Reads `pairs` pairs.
 *
 * @throws {FormatError} on anything malformed, a duplicate key or a cap exceeded
 */
export function readMetadata(
  cursor: Cursor,
  pairs: number,
  source: string,
  { without }: MetadataOptions = {},
): GgufMetadata {
  const entries = new Map<string, GgufEntry>();
  const leftOut = new Set<string>();
  const budget: Budget = { stringBytes: MAX_STRING_BYTES, arrayItems: MAX_ARRAY_ITEMS };
  for (let i = 0; i < pairs; i++) {
    const start = cursor.offset;
    const key = readString(cursor, `key of metadata pair ${i}`, budget, MAX_KEY_BYTES);
    if (key === "") throw cursor.error(`key of metadata pair ${i} is empty`, start);
    if (entries.has(key) || leftOut.has(key)) {
      throw cursor.error(`duplicate metadata key ${quote(key)}`, start);
    }
    const isLeftOut = without !== undefined && key.startsWith(without);
    const entry = readEntry(cursor, `metadata ${quote(key)}`, budget, isLeftOut);
    if (isLeftOut) leftOut.add(key);
    else entries.set(key, entry);
  }
  return lookUp(entries, source);
}

/** A string as GGUF stores it: u64 length, then UTF-8. */
export function readString(
  cursor: Cursor,
  field: string,
  budget: Pick<Budget, "stringBytes">,
  maxBytes: number = MAX_STRING_BYTES,
): string {
  const length = cursor.size(`length of ${field}`, Math.min(maxBytes, budget.stringBytes));
  budget.stringBytes -= length;
  return cursor.utf8(length, field);
}

/** @param skips whether an array of strings is walked over only and comes back empty */
function readEntry(cursor: Cursor, field: string, budget: Budget, skips: boolean): GgufEntry {
  const type = readType(cursor, field);
  if (type !== "array") return { type, value: readScalar(cursor, type, field, budget) };
  const start = cursor.offset;
  const itemType = readType(cursor, `items of ${field}`);
  if (itemType === "array") throw cursor.error(`${field} is an array of arrays`, start);
  if (skips && itemType === "string") skipStrings(cursor, field, budget);
  const value = skips && itemType === "string" ? [] : readArray(cursor, itemType, field, budget);
  return { type, itemType, value };
}

function readType(cursor: Cursor, field: string): GgufTypeName {
  const start = cursor.offset;
  const id = cursor.u32(`type of ${field}`);
  const name = typeNames[id];
  if (name === undefined) throw cursor.error(`type of ${field} is ${id}, which is unknown`, start);
  return name;
}

function readScalar(cursor: Cursor, type: ItemType, field: string, budget: Budget): GgufScalar {
  switch (type) {
    case "bool":
      return readBoolean(cursor, field);
    case "string":
      return readString(cursor, field, budget);
    case "u64":
    case "i64": {
      const value = cursor[type](field);
      return isSafe(value) ? Number(value) : value;
    }
    default:
      return cursor[type](field);
  }
}

function readBoolean(cursor: Cursor, field: string): boolean {
  const start = cursor.offset;
  const byte = cursor.u8(field);
  if (byte > 1) throw cursor.error(`${field} is a boolean with the value ${byte}`, start);
  return byte === 1;
}

const arrayOf = {
  u8: Uint8Array,
  i8: Int8Array,
  u16: Uint16Array,
  i16: Int16Array,
  u32: Uint32Array,
  i32: Int32Array,
  f32: Float32Array,
  f64: Float64Array,
  u64: BigUint64Array,
  i64: BigInt64Array,
} as const;

function readArray(cursor: Cursor, type: ItemType, field: string, budget: Budget): GgufArray {
  const itemBytes = type === "bool" ? 1 : type === "string" ? 8 : arrayOf[type].BYTES_PER_ELEMENT;
  const count = cursor.count(`length of ${field}`, itemBytes, budget.arrayItems);
  budget.arrayItems -= count;
  if (type === "bool") return Array.from({ length: count }, () => readBoolean(cursor, field));
  if (type === "string") {
    return Array.from({ length: count }, () => readString(cursor, field, budget));
  }
  return new arrayOf[type](cursor.bytes(count * itemBytes, field).buffer);
}

function skipStrings(cursor: Cursor, field: string, budget: Budget): void {
  const count = cursor.count(`length of ${field}`, 8, budget.arrayItems);
  budget.arrayItems -= count;
  for (let i = 0; i < count; i++) {
    const length = cursor.size(`length of ${field}`, budget.stringBytes);
    budget.stringBytes -= length;
    cursor.skip(length, field);
  }
}

const isSafe = (value: bigint): boolean =>
  value <= BigInt(Number.MAX_SAFE_INTEGER) && value >= BigInt(Number.MIN_SAFE_INTEGER);

function lookUp(entries: ReadonlyMap<string, GgufEntry>, source: string): GgufMetadata {
  const fail = (key: string, wanted: string) => {
    const entry = entries.get(key);
    const found = entry?.type === "array" ? `an array of ${entry.itemType}` : entry?.type;
    return new FormatError(`metadata ${quote(key)} is ${found}, expected ${wanted}`, { source });
  };
  const value = (key: string) => entries.get(key)?.value;
  return {
    keys: () => entries.keys(),
    has: (key) => entries.has(key),
    get: (key) => entries.get(key),
    string(key) {
      const found = value(key);
      if (found === undefined || typeof found === "string") return found;
      throw fail(key, "a string");
    },
    number(key) {
      const found = value(key);
      if (found === undefined || typeof found === "number") return found;
      throw fail(key, "a number");
    },
    boolean(key) {
      const found = value(key);
      if (found === undefined || typeof found === "boolean") return found;
      throw fail(key, "a boolean");
    },
    strings(key) {
      const found = value(key);
      if (found === undefined) return undefined;
      const items = itemsOf(found).filter((item) => typeof item === "string");
      if (items.length === lengthOf(found)) return items;
      throw fail(key, "an array of strings");
    },
    numbers(key) {
      const found = value(key);
      if (found === undefined) return undefined;
      const items = itemsOf(found).map((item) =>
        typeof item === "bigint" && isSafe(item) ? Number(item) : item
      ).filter((item) => typeof item === "number");
      if (items.length === lengthOf(found)) return items;
      throw fail(key, "an array of numbers");
    },
  };
}

function itemsOf(value: GgufScalar | GgufArray): GgufScalar[] {
  return typeof value === "object" ? Array.from<GgufScalar>(value) : [];
}

/** Length of an array; a scalar matches no length. */
function lengthOf(value: GgufScalar | GgufArray): number {
  return typeof value === "object" ? value.length : -1;
}
