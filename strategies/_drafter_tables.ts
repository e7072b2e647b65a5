/** Proposals without a second model: from tables over text that is there already. */
import { largest, type TokenId, type Vocab } from "../runtime/mod.ts";
import type { Drafter, DraftTree } from "./_drafter.ts";
import type { Draft } from "./_verify_rules.ts";

/** What is known about one sequence. */
export interface DraftTable {
  /** Adds a committed token. */
  push(token: TokenId): void;
  /** At most `count` tokens that may follow, likeliest continuation first to last. */
  propose(count: number): readonly TokenId[];
  /** A tree of at most `depth` levels, for tables that know several continuations. */
  tree?(depth: number): DraftTree;
  /** The target's logits after a token, for tables that learn from them. */
  observe?(token: TokenId, row: Float32Array): void;
}

/**
 * Drafts from a table. Proposals end before a token the constraint refuses or a control token that
 * does not stop: role markers of the prompt are never proposed.
 */
export function tableDrafter(table: DraftTable, prompt: readonly TokenId[], vocab: Vocab): Drafter {
  for (const token of prompt) table.push(token);
  let last = prompt.at(-1)!;
  return {
    propose(count, trail) {
      const drafts: Draft[] = [];
      if (count === 0) return Promise.resolve(drafts);
      for (const token of table.propose(count)) {
        if (vocab.isSpecial(token) && !vocab.stopTokens.has(token)) break;
        if (!trail.allows(token)) break;
        drafts.push({ token, law: undefined });
        if (!trail.push(token)) break;
      }
      return Promise.resolve(drafts);
    },
    proposeTree: (depth) =>
      Promise.resolve(depth > 0 && table.tree?.(depth) || { tokens: [], parents: [] }),
    settle({ drafts, accepted, token, rows, seen = [] }) {
      if (table.observe) {
        for (const [token, row] of seen) table.observe(token, row);
        // Rejected ones first, so that of equal tokens the last one kept wins.
        for (let i = accepted; i < drafts.length; i++) {
          table.observe(drafts[i]!.token, rows[i + 1]!);
        }
        table.observe(last, rows[0]!);
        for (let i = 0; i < accepted; i++) table.observe(drafts[i]!.token, rows[i + 1]!);
      }
      for (const { token } of drafts.slice(0, accepted)) table.push(token);
      table.push(token);
      last = token;
    },
    [Symbol.dispose]: () => {},
  };
}

/**
 * Prompt lookup: what followed the latest earlier occurrence of the last n tokens, for the largest n
 * in `minN`..`maxN` that has one. Runs that reach the end go on cyclically.
 *
 * Source: https://github.com/apoorvumang/prompt-lookup-decoding. Differs: the latest occurrence, not
 * the earliest, since recent text is the better guide.
 * Cost: `maxN` map operations per committed token, no scan.
 */
export function promptLookup({ maxN, minN }: { maxN: number; minN: number }): DraftTable {
  const tokens: TokenId[] = [];
  /** Last n tokens, joined -> where the token after their latest occurrence stands. */
  const after = new Map<string, number>();
  const suffix = (n: number) => tokens.slice(tokens.length - n).join();
  return {
    push(token) {
      for (let n = minN; n <= Math.min(maxN, tokens.length); n++) {
        after.set(suffix(n), tokens.length);
      }
      tokens.push(token);
    },
    propose(count) {
      for (let n = Math.min(maxN, tokens.length); n >= minN; n--) {
        const start = after.get(suffix(n));
        if (start === undefined) continue;
        const period = tokens.length - start;
        return Array.from({ length: count }, (_, i) => tokens[start + i % period]!);
      }
      return [];
    },
  };
}

/**
 * Token recycling: the most likely successors each token had when the target last computed it.
 *
 * Source: Luo et al. 2024, https://arxiv.org/abs/2408.08696. Differs: the tree has as many nodes as
 * asked for, those with the smallest sums of ranks, instead of a template of 80; the table lives for
 * one request; tokens not seen yet propose nothing.
 *
 * @param nodes most nodes of a tree; 0 = chains only
 */
export function tokenRecycling(nodes: number): DraftTable {
  const successors = new Map<TokenId, readonly TokenId[]>();
  let last: TokenId | undefined;
  const after = (token: TokenId | undefined) =>
    token === undefined ? [] : successors.get(token) ?? [];
  return {
    push(token) {
      last = token;
    },
    propose(count) {
      const chain: TokenId[] = [];
      for (let token = after(last)[0]; token !== undefined; token = after(token)[0]) {
        if (chain.length === count) break;
        chain.push(token);
      }
      return chain;
    },
    tree: (depth) => bestFirst(after(last), after, { depth, nodes }),
    observe(token, row) {
      const best = largest(row, nodes === 0 ? 1 : successorsKept);
      successors.set(token, Array.from(best));
    },
  };
}

/** As in the paper. */
const successorsKept = 8;

/** Nodes in order of the sum of their ranks along the path, each rank counted from 1. */
function bestFirst(
  roots: readonly TokenId[],
  after: (token: TokenId) => readonly TokenId[],
  { depth, nodes }: { readonly depth: number; readonly nodes: number },
): DraftTree {
  const tokens: TokenId[] = [];
  const parents: number[] = [];
  const waiting: { token: TokenId; parent: number; level: number; cost: number }[] = [];
  const offer = (children: readonly TokenId[], parent: number, level: number, cost: number) => {
    if (level > depth) return;
    children.forEach((token, rank) =>
      waiting.push({ token, parent, level, cost: cost + rank + 1 })
    );
  };
  offer(roots, -1, 1, 0);
  while (tokens.length < nodes && waiting.length > 0) {
    let best = 0;
    for (let i = 1; i < waiting.length; i++) if (waiting[i]!.cost < waiting[best]!.cost) best = i;
    const [{ token, parent, level, cost }] = waiting.splice(best, 1) as [typeof waiting[number]];
    tokens.push(token);
    parents.push(parent);
    offer(after(token), tokens.length - 1, level + 1, cost);
  }
  return { tokens, parents };
}
