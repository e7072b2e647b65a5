/** The tokens of a vocabulary as a tree of bytes. */
import type { TokenId, Vocab } from "../../model.ts";

/**
 * Nodes in depth-first order, the root left out. A node's children follow it; `skip` is the first
 * node behind its subtree.
 */
export interface ByteTrie {
  readonly size: number;
  /**
   * Packed, so that a walk reads one word per node: bits 0 to 7 the byte that leads into it, bit 8
   * whether tokens end here, from bit 9 the bytes above it (0 for the first byte of a token).
   */
  readonly nodes: Uint32Array;
  readonly skip: Uint32Array;
  /** Tokens that end at node i: tokens[first[i]] to tokens[first[i + 1] - 1]. */
  readonly first: Uint32Array;
  readonly tokens: Uint32Array;
  /** Bytes of the longest token. */
  readonly maxDepth: number;
  /** Whether a token consists of this byte alone. */
  readonly single: Uint8Array;
  /** Whether the token may stand in a constrained text: no control and no stop token, not empty. */
  readonly isText: Uint8Array;
}

/** The bit of {@link ByteTrie.nodes} that says tokens end here. */
export const endsHere = 0x100;

const tries = new WeakMap<Vocab, ByteTrie>();

/** The trie of a vocabulary, made once. */
export function byteTrie(vocab: Vocab): ByteTrie {
  let trie = tries.get(vocab);
  if (!trie) tries.set(vocab, trie = buildTrie(vocab, (bytes) => bytes));
  return trie;
}

/** The trie of a part of each token's bytes, where it has one; `isText` covers all tokens. */
export function buildTrie(
  vocab: Vocab,
  partOf: (bytes: Uint8Array) => Uint8Array | undefined,
): ByteTrie {
  const isText = new Uint8Array(vocab.size);
  const texts: { readonly bytes: Uint8Array; readonly token: TokenId }[] = [];
  for (let token = 0; token < vocab.size; token++) {
    const bytes = vocab.bytes(token);
    if (bytes.length === 0 || vocab.isSpecial(token) || vocab.stopTokens.has(token)) continue;
    isText[token] = 1;
    const part = partOf(bytes);
    if (part) texts.push({ bytes: part, token });
  }
  texts.sort((a, b) => compare(a.bytes, b.bytes));
  return { ...layOut(texts), isText };
}

function compare(a: Uint8Array, b: Uint8Array): number {
  const shared = Math.min(a.length, b.length);
  for (let i = 0; i < shared; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return a.length - b.length;
}

function layOut(texts: readonly { readonly bytes: Uint8Array; readonly token: TokenId }[]) {
  const nodes: number[] = [];
  const skip: number[] = [];
  const first: number[] = [];
  /** The nodes that lead to the text before. */
  const path: number[] = [];
  const single = new Uint8Array(256);
  let maxDepth = 0;
  let last = new Uint8Array();
  texts.forEach(({ bytes }, i) => {
    let shared = 0;
    while (shared < last.length && last[shared] === bytes[shared]) shared++;
    while (path.length > shared) skip[path.pop()!] = nodes.length;
    for (let at = shared; at < bytes.length; at++) {
      path.push(nodes.length);
      nodes.push(bytes[at]! | (at === bytes.length - 1 ? endsHere : 0) | (at << 9));
      // Nodes above the text's own have no token here: theirs came before or do not exist.
      first.push(i);
    }
    if (bytes.length === 1) single[bytes[0]!] = 1;
    maxDepth = Math.max(maxDepth, bytes.length);
    last = new Uint8Array(bytes);
  });
  while (path.length > 0) skip[path.pop()!] = nodes.length;
  first.push(texts.length);
  return {
    size: nodes.length,
    nodes: Uint32Array.from(nodes),
    skip: Uint32Array.from(skip),
    first: Uint32Array.from(first),
    tokens: Uint32Array.from(texts, ({ token }) => token),
    maxDepth,
    single,
  };
}
