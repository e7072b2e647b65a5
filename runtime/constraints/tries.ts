/** The tokens of a vocabulary, sorted for texts with free stretches. */
import type { TokenId, Vocab } from "../model.ts";
import { buildTrie, type ByteTrie, byteTrie } from "./regex/byte_trie.ts";

/** The tokens of a vocabulary, and those that may stand anywhere in free text. */
export interface Tries {
  readonly all: ByteTrie;
  /**
   * By number of characters: bits of the tokens of at most so many whole characters without quotes,
   * backslashes and controls. The last one has them all.
   */
  readonly plain: readonly Uint32Array[];
  /** The other tokens. */
  readonly rest: ByteTrie;
  /** The other tokens by what follows their plain text. */
  readonly endings: ByteTrie;
  /** The other tokens by their plain text, bytes as characters. */
  readonly byText: ReadonlyMap<string, readonly TokenId[]>;
  /** Those that begin with no plain text at all. */
  readonly textless: { readonly trie: ByteTrie; readonly bits: Uint32Array };
  /** Tokens with more than two quotes, in which two names may end. */
  readonly odd: readonly TokenId[];
  /** Whether every byte inside a character is a token, so that tokens may end there. */
  readonly canSplit: boolean;
}

const known = new WeakMap<Vocab, Tries>();

/** Whether texts of ASCII characters can always be finished. */
export function canWriteAscii(vocab: Vocab): boolean {
  const { single } = byteTrie(vocab);
  return single.subarray(0x20, 0x7f).every((has) => has === 1);
}

/** Whether every character can be finished, whatever its bytes. */
export function canWriteAnything(vocab: Vocab): boolean {
  const { single } = byteTrie(vocab);
  return canWriteAscii(vocab) && single.subarray(0x80, 0xc0).every((has) => has === 1) &&
    single.subarray(0xc2, 0xf5).every((has) => has === 1);
}

/** The tries of a vocabulary, made once. */
export function triesOf(vocab: Vocab): Tries {
  let tries = known.get(vocab);
  if (!tries) {
    const all = byteTrie(vocab);
    const plain = plainByLength(vocab, all);
    const rest = buildTrie(vocab, (bytes) => isPlain(bytes) ? undefined : bytes);
    const endings = buildTrie(vocab, (bytes) => {
      const end = plainLength(bytes);
      return end < bytes.length ? bytes.subarray(end) : undefined;
    });
    const canSplit = all.single.subarray(0x80, 0xc0).every((has) => has === 1);
    known.set(vocab, tries = { all, plain, rest, endings, canSplit, ...specialTokens(vocab, all) });
  }
  return tries;
}

function plainByLength(vocab: Vocab, { isText }: ByteTrie): Uint32Array[] {
  const byLength: number[][] = [[]];
  for (let token = 0; token < vocab.size; token++) {
    const bytes = vocab.bytes(token);
    if (!isText[token] || !isPlain(bytes)) continue;
    const characters = bytes.reduce((sum, byte) => sum + ((byte & 0xc0) === 0x80 ? 0 : 1), 0);
    while (byLength.length <= characters) byLength.push([]);
    byLength[characters]!.push(token);
  }
  let bits = new Uint32Array(Math.ceil(vocab.size / 32));
  return byLength.map((tokens) => {
    bits = bits.slice();
    for (const token of tokens) bits[token >> 5]! |= 1 << (token & 31);
    return bits;
  });
}

function specialTokens(vocab: Vocab, { isText }: ByteTrie) {
  const isTextless = (bytes: Uint8Array) => plainLength(bytes) === 0;
  const textless = {
    trie: buildTrie(vocab, (bytes) => isTextless(bytes) ? bytes : undefined),
    bits: new Uint32Array(Math.ceil(vocab.size / 32)),
  };
  const byText = new Map<string, TokenId[]>();
  const odd: TokenId[] = [];
  for (let token = 0; token < vocab.size; token++) {
    if (!isText[token]) continue;
    const bytes = vocab.bytes(token);
    const end = plainLength(bytes);
    if (end === bytes.length) continue;
    if (end === 0) textless.bits[token >> 5]! |= 1 << (token & 31);
    const text = String.fromCharCode(...bytes.subarray(0, end));
    const list = byText.get(text);
    if (list) list.push(token);
    else byText.set(text, [token]);
    if (bytes.filter((byte) => byte === quote).length > 2) odd.push(token);
  }
  return { byText, odd, textless };
}

const quote = 0x22;

/** Bytes of the whole characters at the beginning that are no quote, backslash or control. */
function plainLength(bytes: Uint8Array): number {
  let at = 0;
  while (at < bytes.length) {
    const byte = bytes[at]!;
    if (byte < 0x20 || byte === quote || byte === 0x5c) break;
    const length = byte < 0x80 ? 1 : byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    if (!isWhole(bytes.subarray(at, at + length))) break;
    at += length;
  }
  return at;
}

const decoder = new TextDecoder("utf-8", { fatal: true });

function isPlain(bytes: Uint8Array): boolean {
  return plainLength(bytes) === bytes.length;
}

function isWhole(bytes: Uint8Array): boolean {
  if (bytes.length === 1) return bytes[0]! < 0x80;
  try {
    decoder.decode(bytes);
    return true;
  } catch {
    return false;
  }
}
