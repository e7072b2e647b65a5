/**
 * Added tokens: pieces found in the text before anything else, longest first.
 *
 * Source: `AddedVocabulary` of the Hugging Face tokenizers library (leftmost longest match, lstrip,
 * rstrip, single_word) and `tokenizer_st_partition` of llama.cpp.
 * Differs: tokens that steer the model are only found where the caller says so, see `control`.
 */
import type { TokenId } from "../model.ts";

/** A piece matched in the text itself. */
export interface AddedToken {
  readonly id: TokenId;
  readonly content: string;
  /**
   * Written by templates and runtimes, not by people: recognised only with `special: true`, and
   * never inside message contents. Without it the token is ordinary vocabulary, like a run of
   * spaces.
   */
  readonly control: boolean;
  /** Also takes the white space before it. */
  readonly lstrip: boolean;
  /** Also takes the white space after it. */
  readonly rstrip: boolean;
  /** Only where no word character touches it. */
  readonly singleWord: boolean;
}

/** A stretch of text, or an added token (with the text it took). */
export interface Segment {
  readonly text: string;
  readonly token: AddedToken | undefined;
  /** Where the stretch starts. */
  readonly start: number;
}

/** Decides whether a control token may be recognised at [start, end). */
export type Allow = (start: number, end: number) => boolean;

/**
 * Cuts text into stretches and tokens. `allow` undefined: control tokens stay text.
 * Empty stretches are left out.
 */
export type AddedTokenSplitter = (text: string, allow: Allow | undefined) => readonly Segment[];

interface Node {
  token: AddedToken | undefined;
  readonly children: Map<number, Node>;
}

/** A splitter over a fixed set of tokens. */
export function createAddedTokenSplitter(tokens: readonly AddedToken[]): AddedTokenSplitter {
  const plain = buildTrie(tokens.filter((token) => !token.control));
  const all = buildTrie(tokens);
  return (text, allow) => {
    const root = allow ? all : plain;
    if (root.children.size === 0) return stretch(text, 0, text.length);
    return cut(text, root, allow ?? (() => false));
  };
}

function buildTrie(tokens: readonly AddedToken[]): Node {
  const root: Node = { token: undefined, children: new Map() };
  for (const token of tokens) {
    if (token.content === "") continue;
    let node = root;
    for (let i = 0; i < token.content.length; i++) {
      const unit = token.content.charCodeAt(i);
      let child = node.children.get(unit);
      if (!child) node.children.set(unit, child = { token: undefined, children: new Map() });
      node = child;
    }
    node.token ??= token;
  }
  return root;
}

function cut(text: string, root: Node, allow: Allow): Segment[] {
  const segments: Segment[] = [];
  let done = 0;
  for (let at = 0; at < text.length;) {
    const token = longestAt(text, at, root, allow);
    if (!token) {
      at++;
      continue;
    }
    const [start, end] = taken(text, token, at, done);
    segments.push(...stretch(text, done, start));
    segments.push({ text: text.slice(start, end), token, start });
    done = at = end;
  }
  segments.push(...stretch(text, done, text.length));
  return segments;
}

function longestAt(
  text: string,
  start: number,
  root: Node,
  allow: Allow,
): AddedToken | undefined {
  let found: AddedToken | undefined;
  let node = root.children.get(text.charCodeAt(start));
  for (let end = start + 1; node; end++) {
    const token = node.token;
    if (token && fits(text, token, start, end) && (!token.control || allow(start, end))) {
      found = token;
    }
    node = end < text.length ? node.children.get(text.charCodeAt(end)) : undefined;
  }
  return found;
}

const wordCharacter = "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]";
const wordBefore = new RegExp(`${wordCharacter}$`, "u");
const wordAfter = new RegExp(`^${wordCharacter}`, "u");

function fits(text: string, token: AddedToken, start: number, end: number): boolean {
  if (!token.singleWord) return true;
  return !wordBefore.test(text.slice(Math.max(0, start - 2), start)) &&
    !wordAfter.test(text.slice(end, end + 2));
}

const whiteSpace = /\p{White_Space}/u;

/** The range a token takes, without what an earlier token has taken. */
function taken(text: string, token: AddedToken, at: number, done: number): [number, number] {
  let start = at;
  let end = at + token.content.length;
  if (token.lstrip) { while (start > done && whiteSpace.test(text[start - 1]!)) start--; }
  if (token.rstrip) { while (end < text.length && whiteSpace.test(text[end]!)) end++; }
  return [start, end];
}

function stretch(text: string, start: number, end: number): Segment[] {
  return start < end ? [{ text: text.slice(start, end), token: undefined, start }] : [];
}
