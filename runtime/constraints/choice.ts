/** The completion is one of a few texts. */
import type { Constraint } from "../constraint.ts";
import type { Vocab } from "../model.ts";

/** Place in the tree of texts: which bytes may follow. */
export interface ChoiceState {
  readonly next: ReadonlyMap<number, ChoiceState>;
  /** Whether one of the texts ends here. */
  readonly isEnd: boolean;
}

interface Node extends ChoiceState {
  readonly next: Map<number, Node>;
  isEnd: boolean;
}

/**
 * A constraint that allows exactly the given texts, however their bytes are cut into tokens. Control
 * tokens are never allowed; where a text ends, the completion may.
 *
 * @throws {RangeError} if there is no text, or the vocabulary cannot write one of them
 */
export function choiceConstraint(
  vocab: Vocab,
  texts: readonly string[],
): Constraint<ChoiceState> {
  if (texts.length === 0) throw new RangeError("A choice needs at least one text");
  const root: Node = { next: new Map(), isEnd: false };
  for (const text of texts) addText(root, text);
  const masks = new Map<ChoiceState, Uint32Array>();

  const hopeful = new Map<ChoiceState, boolean>();

  function follow(state: ChoiceState, token: number): ChoiceState | undefined {
    const bytes = vocab.bytes(token);
    if (bytes.length === 0) return undefined;
    let at: ChoiceState | undefined = state;
    for (let i = 0; i < bytes.length && at; i++) at = at.next.get(bytes[i]!);
    return at;
  }
  /** Whether some tokens lead from here to an end: vocabularies may lack the bytes in between. */
  function isHopeful(state: ChoiceState): boolean {
    let known = hopeful.get(state);
    if (known !== undefined) return known;
    known = state.isEnd;
    for (let token = 0; token < vocab.size && !known; token++) {
      const next = follow(state, token);
      known = next !== undefined && isHopeful(next);
    }
    hopeful.set(state, known);
    return known;
  }
  function advance(state: ChoiceState, token: number): ChoiceState | undefined {
    const next = follow(state, token);
    return next && isHopeful(next) ? next : undefined;
  }
  function mask(state: ChoiceState): Uint32Array {
    const known = masks.get(state);
    if (known) return known;
    const bits = new Uint32Array(Math.ceil(vocab.size / 32));
    for (let token = 0; token < vocab.size; token++) {
      if (advance(state, token) !== undefined) bits[token >> 5]! |= 1 << (token & 31);
    }
    masks.set(state, bits);
    return bits;
  }

  for (const text of texts) requireWritable(text, vocab);
  return {
    name: "choice",
    start: () => root,
    advance,
    mask: (state, out) => {
      const bits = mask(state);
      for (let word = 0; word < bits.length; word++) out[word]! |= bits[word]!;
    },
    accepting: ({ isEnd }) => isEnd,
  };
}

function addText(root: Node, text: string): void {
  let at = root;
  for (const byte of new TextEncoder().encode(text)) {
    let next = at.next.get(byte);
    if (!next) at.next.set(byte, next = { next: new Map(), isEnd: false });
    at = next;
  }
  at.isEnd = true;
}

/** A text that could never come out is a mistake in the request. */
function requireWritable(text: string, vocab: Vocab): void {
  if (vocab.decode(vocab.encode(text)) !== text) {
    throw new RangeError(`The vocabulary cannot write ${JSON.stringify(text)}`);
  }
}
