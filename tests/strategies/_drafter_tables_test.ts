import { assertEquals } from "@std/assert";
import { createRng, seedFrom } from "../../runtime/mod.ts";
import { promptLookup, tokenRecycling } from "../../strategies/_drafter_tables.ts";
import { type SuffixNode, suffixTable } from "../../strategies/_drafter_suffix.ts";

const codes = (text: string) => [...text].map((letter) => letter.charCodeAt(0));
const words = (tokens: readonly number[]) => String.fromCharCode(...tokens);

function lookUp(text: string, count: number, maxN = 3, minN = 1): string {
  const table = promptLookup({ maxN, minN });
  for (const token of codes(text)) table.push(token);
  return words(table.propose(count));
}

Deno.test("promptLookup() finds the latest occurrence of the longest suffix", () => {
  const cases: [text: string, expected: string][] = [
    ["", ""],
    ["abc", ""], // no match
    ["abcdab", "cda"], // match at the start
    ["abxcabycab", "yca"], // longest suffix cab, then latest
    ["axbxcx", "cxc"], // latest x, cyclic
    ["aaaa", "aaa"], // overlapping: period 1
    ["abab", "aba"],
  ];
  for (const [text, expected] of cases) assertEquals(lookUp(text, 3), expected, text);
  assertEquals(lookUp("abcdxbc", 1, 3, 3), ""); // only two tokens match
  assertEquals(lookUp("abcdxbc", 1, 2, 2), "d");
});

Deno.test("promptLookup() equals a search of the whole text, at every prefix of random texts", () => {
  const rng = createRng(seedFrom(1));
  for (let run = 0; run < 20; run++) {
    const text = Array.from({ length: 60 }, () => Math.floor(rng.next() * 3));
    const table = promptLookup({ maxN: 4, minN: 2 });
    for (const [i, token] of text.entries()) {
      table.push(token);
      assertEquals(table.propose(5), searched(text.slice(0, i + 1), 4, 2, 5));
    }
  }
});

function searched(text: readonly number[], maxN: number, minN: number, count: number): number[] {
  for (let n = Math.min(maxN, text.length); n >= minN; n--) {
    const suffix = text.slice(-n).join();
    for (let start = text.length - n - 1; start >= 0; start--) {
      if (text.slice(start, start + n).join() !== suffix) continue;
      const from = start + n;
      return Array.from({ length: count }, (_, i) => text[from + i % (text.length - from)]!);
    }
  }
  return [];
}

const bold = { maxDepth: 5, factor: 1, offset: 0, minProb: 0.1, minScore: 0 };

Deno.test("suffixTable() counts every run of tokens up to its depth", () => {
  const rng = createRng(seedFrom(2));
  const text = Array.from({ length: 80 }, () => Math.floor(rng.next() * 3));
  const table = suffixTable(bold);
  for (const token of text) table.push(token);
  const counted = new Map<string, number>();
  const visit = (node: SuffixNode, run: readonly number[]) => {
    if (run.length > 0) counted.set(run.join(), node.count);
    for (const [token, child] of node.children) visit(child, [...run, token]);
  };
  visit(table.root, []);
  const exact = new Map<string, number>();
  for (let length = 1; length <= 5; length++) {
    for (let start = 0; start + length <= text.length; start++) {
      const run = text.slice(start, start + length).join();
      exact.set(run, (exact.get(run) ?? 0) + 1);
    }
  }
  assertEquals(new Map([...counted].sort()), new Map([...exact].sort()));
});

Deno.test("suffixTable() proposes as many tokens as match, fewer where it is unsure", () => {
  const proposed = (text: string, count: number, options = {}) => {
    const table = suffixTable({ ...bold, ...options });
    for (const token of codes(text)) table.push(token);
    return words(table.propose(count));
  };
  assertEquals(proposed("abcdefgh-abc", 8), "de"); // a match of 3 counted to depth 5
  assertEquals(proposed("abcdefgh-abc", 1), "d");
  assertEquals(proposed("abcdefgh-abc", 8, { maxDepth: 24 }), "def"); // factor 1: as many as match
  assertEquals(proposed("abcdefgh-abc", 8, { maxDepth: 24, factor: 2 }), "defgh-");
  assertEquals(proposed("abcdefgh", 8), "");
  assertEquals(proposed("xaxbxcx", 8, { minProb: 0.5 }), "");
  assertEquals(proposed("abcdefgh-abc", 8, { minScore: 9 }), "");
});

Deno.test("tokenRecycling() follows what each token's logits said last", () => {
  const table = tokenRecycling(0);
  table.push(0);
  assertEquals(table.propose(3), []);
  const row = (best: number) => Float32Array.from([0, 1, 2, 3], (i) => i === best ? 1 : 0);
  table.observe!(0, row(2));
  table.observe!(2, row(1));
  assertEquals(table.propose(3), [2, 1]);
  assertEquals(table.propose(1), [2]);
  table.observe!(0, row(0));
  assertEquals(table.propose(3), [0, 0, 0]);
});

Deno.test("tokenRecycling() makes trees of the smallest sums of ranks, as deep and large as asked", () => {
  const table = tokenRecycling(5);
  table.push(0);
  assertEquals(table.tree!(3), { tokens: [], parents: [] });
  // Successors of any token: 3, 2, 1, 0.
  for (const token of [0, 1, 2, 3]) table.observe!(token, Float32Array.of(0, 1, 2, 3));
  // Costs: 3 = 1, then 2 and 3-3 = 2, then 1, 3-2, 2-3 and 3-3-3 = 3; older offers first.
  assertEquals(table.tree!(3), { tokens: [3, 2, 3, 1, 2], parents: [-1, -1, 0, -1, 0] });
  assertEquals(table.tree!(1), { tokens: [3, 2, 1, 0], parents: [-1, -1, -1, -1] });
});
