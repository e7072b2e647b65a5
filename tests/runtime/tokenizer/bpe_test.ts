import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { createMerge } from "../../../runtime/tokenizer/bpe.ts";
import {
  createPairTable,
  type PairLookup,
  type PairTable,
} from "../../../runtime/tokenizer/pair_table.ts";

type Rule = readonly [left: number, right: number, rank: number, merged: number];

function tableOf(rules: readonly Rule[]): PairTable {
  const table = createPairTable(rules.length);
  for (const rule of rules) table.add(...rule);
  return table;
}

/** The definition, one scan per merge. */
function mergeByScanning(symbols: readonly number[], table: PairLookup): number[] {
  const word = [...symbols];
  for (;;) {
    let best: { at: number; slot: number } | undefined;
    for (let at = 0; at + 1 < word.length; at++) {
      const slot = table.find(word[at]!, word[at + 1]!);
      if (slot >= 0 && (!best || table.rank(slot) < table.rank(best.slot))) best = { at, slot };
    }
    if (!best) return word;
    word.splice(best.at, 2, table.merged(best.slot));
  }
}

Deno.test("createMerge() merges as the definition does, also with equal ranks", () => {
  const symbol = fc.nat(4);
  const rule = fc.tuple(symbol, symbol, fc.nat(12), symbol);
  fc.assert(
    fc.property(fc.array(rule, { maxLength: 20 }), fc.array(symbol, { maxLength: 40 }), (
      rules,
      word,
    ) => {
      const table = tableOf(rules);
      assertEquals(createMerge(table)(word), mergeByScanning(word, table));
    }),
    { numRuns: 3000, seed: 1 },
  );
});

Deno.test("createMerge() can be used again after a word longer than its scratch memory", () => {
  const merge = createMerge(tableOf([[0, 0, 0, 1], [1, 1, 1, 2]]));
  assertEquals(merge(new Array(10_000).fill(0)), new Array(2500).fill(2));
  assertEquals(merge([0, 0, 0, 0, 0]), [2, 0]);
  assertEquals(merge([]), []);
  assertEquals(merge([5]), [5]);
});

Deno.test("createMerge() looks up at most three pairs per symbol, however long the word", () => {
  const table = tableOf([[0, 0, 0, 1], [1, 1, 1, 2], [2, 2, 2, 3], [3, 3, 3, 4], [1, 0, 4, 5]]);
  for (const n of [1000, 100_000]) {
    let finds = 0;
    const counting: PairLookup = {
      find(left, right) {
        finds++;
        return table.find(left, right);
      },
      rank: table.rank,
      merged: table.merged,
    };
    createMerge(counting)(new Array(n).fill(0));
    assert(finds > n / 2 && finds <= 3 * n, `${finds} look-ups for ${n} symbols`);
  }
});

Deno.test("createPairTable() keeps what was added and the lower of two ranks", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(1000), fc.nat(1000), fc.nat(2 ** 21 - 1), fc.nat(2 ** 31 - 1))),
      (rules) => {
        const table = tableOf(rules);
        const expected = new Map<string, number>();
        for (const [left, right, rank] of rules) {
          const key = `${left} ${right}`;
          expected.set(key, Math.min(rank, expected.get(key) ?? Infinity));
        }
        assertEquals(table.size, expected.size);
        for (const [left, right] of rules) {
          assertEquals(table.rank(table.find(left, right)), expected.get(`${left} ${right}`));
        }
        assertEquals(table.find(1001, 0), -1);
      },
    ),
    { seed: 2 },
  );
});
