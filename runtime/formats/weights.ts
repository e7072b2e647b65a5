/**
 * What a loaded weight file offers to the code that builds a model, whatever its format is.
 */
import { FormatError } from "../errors.ts";

/** Named tensors of one model. Closed with `using`; nothing is kept in memory between calls. */
export interface WeightSource extends Disposable {
  /** All tensor names, in the order of the file. */
  names(): Iterable<string>;
  has(name: string): boolean;
  /** Outermost dimension first (row-major): a linear layer is [outputs, inputs]. */
  shape(name: string): readonly number[];
  /** Storage type in the format's own spelling: "F32", "BF16", "Q4_K". */
  dtype(name: string): string;
  /**
   * The values as f32, dequantised, row-major; a fresh array of the product of `shape`.
   *
   * @throws {FormatError} if the storage type is not one that can be used as weights
   */
  f32(name: string): Float32Array<ArrayBuffer>;
  /** A copy of the bytes as stored. */
  raw(name: string): Uint8Array<ArrayBuffer>;
  /**
   * Fills `out` with the bytes as stored from `offset` of the tensor on, so that large tensors need not
   * be in memory twice. Missing: only whole tensors can be had.
   *
   * @throws {FormatError} if the range is not inside the tensor
   */
  readonly rawInto?: (name: string, offset: number, out: Uint8Array) => void;
}

/** The product of `shape`, exact. Undefined if it is above `max`. */
export function elementCount(shape: readonly number[], max: number): number | undefined {
  let product = 1n;
  for (const size of shape) product *= BigInt(size);
  return product <= BigInt(max) ? Number(product) : undefined;
}

/** The entry of `name`, or an error that says which file lacks it. */
export function requireTensor<T>(
  tensors: ReadonlyMap<string, T>,
  name: string,
  source: string,
): T {
  const found = tensors.get(name);
  if (found === undefined) {
    throw new FormatError(`there is no tensor ${JSON.stringify(name)}`, { source });
  }
  return found;
}

/** Where `length` bytes from `offset` of a tensor are in its file. @throws {FormatError} */
export function placeOfPart(
  tensor: { readonly offset: number; readonly bytes: number },
  part: { readonly offset: number; readonly length: number },
  source: string,
): number {
  const { offset, length } = part;
  if (Number.isSafeInteger(offset) && offset >= 0 && length <= tensor.bytes - offset) {
    return tensor.offset + offset;
  }
  throw new FormatError(`${length} bytes wanted of a tensor of ${tensor.bytes}`, {
    source,
    offset,
  });
}
