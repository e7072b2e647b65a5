/** Text normalisation before encoding, as tokenizer.json files ask for it. */

/** Rewrites text. */
export type Normalize = (text: string) => string;

/** Unicode composition sorts a run of combining marks in quadratic time, so runs are limited. */
const MAX_MARKS = 256;
const longMarkRun = new RegExp(`\\p{M}{${MAX_MARKS + 1}}`, "u");
const mayCompose = /[\u0300-\uffff]/;

/**
 * Unicode normalisation form C.
 *
 * @throws {RangeError} if more than 256 combining marks follow each other
 */
export function nfc(text: string): string {
  if (!mayCompose.test(text)) return text;
  if (longMarkRun.test(text)) {
    throw new RangeError(`Cannot encode more than ${MAX_MARKS} combining marks in a row`);
  }
  return text.normalize("NFC");
}

/** Puts a string in front of any text but the empty one. */
export function prepend(prefix: string): Normalize {
  return (text) => text === "" ? text : prefix + text;
}

/** Replaces every occurrence of a string. */
export function replace(from: string, to: string): Normalize {
  return (text) => text.replaceAll(from, () => to);
}

/**
 * Applies normalisations in order.
 *
 * @throws {RangeError} when called, if a step leaves more than four times the text and a little
 */
export function sequence(steps: readonly Normalize[]): Normalize {
  return (text) =>
    steps.reduce((current, step) => {
      const next = step(current);
      if (next.length <= 4 * text.length + 64) return next;
      throw new RangeError("Cannot encode text that normalisation makes over four times as long");
    }, text);
}
