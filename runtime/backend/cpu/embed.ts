/** embed: y[t, :] = table[tokens[t], :]. */
import { type Alloc, type CpuTensor, matrix } from "./tensor.ts";

/**
 * @param table [vocab, hidden]
 * @returns [tokens, hidden]
 * @throws {RangeError} if a token is not in the table
 */
export function embed(alloc: Alloc, table: CpuTensor, tokens: Uint32Array): CpuTensor {
  const [vocab, hidden] = matrix("embed", table);
  const y = alloc("embed", [tokens.length, hidden]);
  for (let t = 0; t < tokens.length; t++) {
    const token = tokens[t]!;
    if (token >= vocab) throw new RangeError(`Token ${token} is not below the vocabulary ${vocab}`);
    y.data.set(table.data.subarray(token * hidden, (token + 1) * hidden), t * hidden);
  }
  return y;
}
