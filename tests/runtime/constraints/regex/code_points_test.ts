import { assertEquals } from "@std/assert";
import {
  assignedPlanes,
  categories,
  category,
  complement,
  rangesOf,
} from "../../../../runtime/constraints/regex/code_points.ts";
import { byteSequences } from "../../../../runtime/constraints/regex/utf8.ts";

const isSurrogate = (point: number) => point >= 0xd800 && point <= 0xdfff;

Deno.test("category() and its complement cover every scalar value once", () => {
  for (const name of categories) {
    const set = category(name, false)!;
    const size = (ranges: readonly [number, number][]) =>
      ranges.reduce((sum, [lo, hi]) => sum + hi - lo + 1, 0);
    const total = size(rangesOf(set)) + size(rangesOf(category(name, true)!));
    assertEquals(total, 0x110000 - 0x800, name);
    assertEquals(complement(category(name, true)!), set, name);
  }
  assertEquals(category("Greek", false), undefined);
});

Deno.test("assignedPlanes holds every character of a category", () => {
  const member = new RegExp(`[${categories.map((name) => `\\p{${name}}`).join("")}]`, "u");
  const isScanned = (point: number) =>
    assignedPlanes.some(([lo, hi]) => lo <= point && point <= hi);
  const missed: number[] = [];
  for (let point = 0; point <= 0x10ffff; point++) {
    if (!isScanned(point) && member.test(String.fromCodePoint(point))) missed.push(point);
  }
  assertEquals(missed, []);
});

Deno.test("byteSequences() of all scalar values match exactly the encoder's bytes", () => {
  const encoder = new TextEncoder();
  const sequences = [[0, 0xd7ff], [0xe000, 0x10ffff]].flatMap(([lo, hi]) =>
    byteSequences(lo!, hi!)
  );
  const count = (sequence: readonly number[]) => {
    let product = 1;
    for (let i = 0; i < sequence.length; i += 2) product *= sequence[i + 1]! - sequence[i]! + 1;
    return product;
  };
  assertEquals(sequences.reduce((sum, s) => sum + count(s), 0), 0x110000 - 0x800);
  const missed: number[] = [];
  for (let point = 0; point <= 0x10ffff; point += point < 0x10000 ? 1 : 61) {
    if (isSurrogate(point)) continue;
    const bytes = encoder.encode(String.fromCodePoint(point));
    const found = sequences.some((s) =>
      s.length === 2 * bytes.length &&
      bytes.every((byte, i) => s[2 * i]! <= byte && byte <= s[2 * i + 1]!)
    );
    if (!found) missed.push(point);
  }
  assertEquals(missed, []);
});
