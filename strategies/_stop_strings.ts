/**
 * Finds stop strings in a stream of bytes, wherever token boundaries fall. Works on UTF-8 bytes,
 * where a match never begins or ends inside a character.
 */

/** Stop strings with their failure functions (Knuth, Morris and Pratt 1977). */
export interface StopStrings {
  readonly patterns: readonly StopPattern[];
}

interface StopPattern {
  readonly text: string;
  readonly bytes: Uint8Array;
  /** Longest proper border of each prefix. */
  readonly borders: Uint16Array;
}

/** How many bytes of each stop string the stream ends with. A value: never changed in place. */
export type StopState = readonly number[];

/** @throws {RangeError} if a stop string is empty or longer than 65,535 bytes */
export function compileStops(texts: readonly string[]): StopStrings {
  return {
    patterns: texts.map((text) => {
      const bytes = new TextEncoder().encode(text);
      if (bytes.length === 0) throw new RangeError("A stop string must not be empty");
      if (bytes.length > 65535) throw new RangeError("A stop string must not exceed 65535 bytes");
      return { text, bytes, borders: bordersOf(bytes) };
    }),
  };
}

/** State before the first byte. */
export function startStops({ patterns }: StopStrings): StopState {
  return patterns.map(() => 0);
}

/** State after one more byte. */
export function advanceStops({ patterns }: StopStrings, state: StopState, byte: number): StopState {
  if (patterns.length === 0) return state;
  return patterns.map(({ bytes, borders }, i) => {
    let matched = state[i]!;
    while (matched > 0 && bytes[matched] !== byte) matched = borders[matched - 1]!;
    return bytes[matched] === byte ? matched + 1 : 0;
  });
}

/** The stop string that is complete; the longest, thus the one that began first, of several. */
export function completedStop(
  { patterns }: StopStrings,
  state: StopState,
): StopPattern | undefined {
  let best: StopPattern | undefined;
  patterns.forEach((pattern, i) => {
    if (state[i] !== pattern.bytes.length) return;
    if (best === undefined || pattern.bytes.length > best.bytes.length) best = pattern;
  });
  return best;
}

/** How many trailing bytes may be the beginning of a stop string. */
export function heldBack(state: StopState): number {
  let longest = 0;
  for (const matched of state) if (matched > longest) longest = matched;
  return longest;
}

function bordersOf(bytes: Uint8Array): Uint16Array {
  const borders = new Uint16Array(bytes.length);
  for (let i = 1, border = 0; i < bytes.length; i++) {
    while (border > 0 && bytes[i] !== bytes[border]) border = borders[border - 1]!;
    if (bytes[i] === bytes[border]) border++;
    borders[i] = border;
  }
  return borders;
}
