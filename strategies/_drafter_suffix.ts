/**
 * Suffix decoding: a trie of counts over all runs of tokens of the sequence, up to a depth.
 *
 * Source: Oliaro et al. 2024, "SuffixDecoding", https://arxiv.org/abs/2411.04975; parameters and
 * defaults as in vLLM's and Arctic's implementations. Differs: the trie of the request alone, since a
 * trie shared between requests would show others' texts in timing and counts.
 */
import type { TokenId } from "../runtime/mod.ts";
import type { DraftTable } from "./_drafter_tables.ts";

/** How far and how boldly to propose. */
export interface SuffixOptions {
  /** Longest run counted, in tokens. */
  readonly maxDepth: number;
  /** At most floor(factor * matched + offset) proposals after a match of `matched` tokens. */
  readonly factor: number;
  readonly offset: number;
  /** A run of proposals ends before its estimated probability falls below this. */
  readonly minProb: number;
  /** Runs that are expected to keep fewer tokens are not proposed. */
  readonly minScore: number;
}

/** A run of tokens and how often it stands in the sequence. */
export interface SuffixNode {
  count: number;
  readonly depth: number;
  readonly children: Map<TokenId, SuffixNode>;
}

/** A table whose trie tests can read. */
export interface SuffixTable extends DraftTable {
  readonly root: SuffixNode;
}

/** An empty trie. Cost: `maxDepth` map operations per token. */
export function suffixTable(options: SuffixOptions): SuffixTable {
  const root = nodeAt(0);
  /** Nodes of the sequence's suffixes, shortest first, the root's included. */
  let ends: readonly SuffixNode[] = [root];
  return {
    root,
    push(token) {
      root.count++;
      const longer = ends.filter(({ depth }) => depth < options.maxDepth)
        .map((node) => childOf(node, token));
      for (const node of longer) node.count++;
      ends = [root, ...longer];
    },
    propose(count) {
      let best: Chain = { tokens: [], score: 0 };
      for (const node of ends.slice(1)) {
        const limit = Math.min(
          count,
          Math.floor(options.factor * node.depth + options.offset),
        );
        const chain = follow(node, limit, options.minProb);
        if (chain.tokens.length > 0 && chain.score >= best.score) best = chain;
      }
      return best.score >= options.minScore ? best.tokens : [];
    },
  };
}

interface Chain {
  readonly tokens: readonly TokenId[];
  /** Expected number of tokens kept. */
  readonly score: number;
}

function follow(start: SuffixNode, limit: number, minProb: number): Chain {
  const tokens: TokenId[] = [];
  let node = start;
  let prob = 1;
  let score = 0;
  while (tokens.length < limit) {
    const next = likeliest(node);
    if (!next) break;
    prob *= next[1].count / node.count;
    if (prob < minProb) break;
    score += prob;
    tokens.push(next[0]);
    node = next[1];
  }
  return { tokens, score };
}

/** The child with the highest count; ties by lower token id. */
function likeliest({ children }: SuffixNode): readonly [TokenId, SuffixNode] | undefined {
  let best: readonly [TokenId, SuffixNode] | undefined;
  for (const entry of children) {
    const better = !best || entry[1].count > best[1].count ||
      (entry[1].count === best[1].count && entry[0] < best[0]);
    if (better) best = entry;
  }
  return best;
}

function childOf(node: SuffixNode, token: TokenId): SuffixNode {
  let child = node.children.get(token);
  if (!child) node.children.set(token, child = nodeAt(node.depth + 1));
  return child;
}

function nodeAt(depth: number): SuffixNode {
  return { count: 0, depth, children: new Map() };
}
