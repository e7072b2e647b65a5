/** Proposals without a second model: from tables over text that is there already. */
import type { TokenId, Vocab } from "../runtime/mod.ts";
import type { Drafter } from "./_drafter.ts";
import type { Draft } from "./_verify_rules.ts";

/** What is known about one sequence. */
export interface DraftTable {
  /** Adds a committed token. */
  push(token: TokenId): void;
  /** At most `count` tokens that may follow, likeliest continuation first to last. */
  propose(count: number): readonly TokenId[];
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
    settle({ drafts, accepted, token, rows }) {
      if (table.observe) {
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
 * Source: Luo et al. 2024, https://arxiv.org/abs/2408.08696. Differs: one chain of first ranks, not a
 * tree of 80 nodes; the table lives for one request; tokens not seen yet propose nothing.
 */
export function tokenRecycling(): DraftTable {
  const successor = new Map<TokenId, TokenId>();
  let last: TokenId | undefined;
  return {
    push(token) {
      last = token;
    },
    propose(count) {
      const chain: TokenId[] = [];
      for (let token = last; chain.length < count;) {
        token = token === undefined ? undefined : successor.get(token);
        if (token === undefined) break;
        chain.push(token);
      }
      return chain;
    },
    observe(token, row) {
      let best = 0;
      for (let i = 1; i < row.length; i++) if (row[i]! > row[best]!) best = i;
      successor.set(token, best);
    },
  };
}
