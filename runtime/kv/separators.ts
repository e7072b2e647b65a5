/**
 * Separators: tokens that end a segment of text, for SepLLM.
 *
 * Source: https://arxiv.org/abs/2412.12094, whose lists are `. , ? ! ; :`, space, tab and newline for
 * one tokenizer each. Differs: found from the loaded tokenizer's bytes, so that `...` or `?!` count too.
 */
import type { Vocab } from "../model.ts";

const marks = new Set([..."., ?!;:\n\t\r"].map((mark) => mark.charCodeAt(0)));

/** Tokens that consist of such marks and white space alone; control tokens are none. */
export function separatorsOf(vocab: Vocab): ReadonlySet<number> {
  const found = new Set<number>();
  for (let token = 0; token < vocab.size; token++) {
    if (vocab.isSpecial(token)) continue;
    const bytes = vocab.bytes(token);
    if (bytes.length > 0 && bytes.every((byte) => marks.has(byte))) found.add(token);
  }
  return found;
}
