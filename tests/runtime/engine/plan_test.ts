import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { pagesFor, plan, type PlanLimits, type Work } from "../../../runtime/engine/plan.ts";

const roomy: PlanLimits = { stepTokens: 64, chunkTokens: 32, pages: 1000, pageSize: 4 };

function work(request: number, tokens: number, more: Partial<Work> = {}): Work {
  return { request, tokens, atomic: 0, slots: 0, copies: false, ...more };
}

/** Tokens taken per work, atomic ones included; `!` marks rows that are complete. */
function taken(works: readonly Work[], limits: Partial<PlanLimits> = {}): string {
  const { takes, missing } = plan(works, { ...roomy, ...limits });
  if (missing > 0) return `missing ${missing}`;
  return works.map((work, i) => {
    const take = takes.find((take) => take.work === i);
    if (take === undefined) return "-";
    return `${take.tokens + (take.final ? work.atomic : 0)}${take.final ? "!" : ""}`;
  }).join(" ");
}

const many = (count: number, request: number, tokens = 1) =>
  Array.from({ length: count }, () => work(request, tokens));

const tables: readonly {
  readonly name: string;
  readonly works: readonly Work[];
  readonly limits?: Partial<PlanLimits>;
  readonly expected: string;
}[] = [
  { name: "nothing", works: [], expected: "" },
  { name: "everything fits", works: [work(0, 5), work(1, 1), work(1, 20)], expected: "5! 1! 20!" },
  { name: "a long prompt goes in chunks", works: [work(0, 100)], expected: "32" },
  {
    name: "a decoding request is not held up by a prompt",
    works: [work(0, 100), work(1, 1)],
    expected: "32 1!",
  },
  {
    name: "branches of one request do not starve another",
    works: [...many(8, 0), work(1, 1)],
    limits: { stepTokens: 4 },
    expected: "1! 1! 1! - - - - - 1!",
  },
  {
    name: "two prompts get equally much",
    works: [work(0, 100), work(1, 100)],
    limits: { stepTokens: 32 },
    expected: "16 16",
  },
  {
    name: "what one request does not need goes to the others",
    works: [work(0, 100), work(1, 2), work(2, 100)],
    limits: { stepTokens: 64 },
    expected: "32 2! 30",
  },
  {
    name: "two prompts of one request get what one prompt of another gets",
    works: [work(0, 90), work(0, 90), work(1, 90)],
    limits: { stepTokens: 96, chunkTokens: 48 },
    expected: "48 - 48",
  },
  {
    name: "a tree stays in one row",
    works: [work(0, 3, { atomic: 7 })],
    expected: "10!",
  },
  {
    name: "a tree that does not fit with the rest waits",
    works: [work(0, 60), work(1, 2, { atomic: 40 })],
    limits: { stepTokens: 40, chunkTokens: 64 },
    expected: "39 1",
  },
  {
    name: "a tree larger than a step still goes when it is the oldest",
    works: [work(0, 1, { atomic: 100 }), work(1, 1)],
    expected: "101! -",
  },
  {
    name: "a tree after a long prompt goes with the prompt's last token",
    works: [work(0, 40, { atomic: 30 })],
    expected: "32",
  },
  {
    name: "pages for a chunk",
    works: [work(0, 40)],
    limits: { pages: 4 },
    expected: "16",
  },
  {
    name: "the oldest takes a single token where there is just one page",
    works: [work(0, 40), work(1, 1)],
    limits: { pages: 1 },
    expected: "1 -",
  },
  {
    name: "pages missing for the oldest, although others could go",
    works: [work(0, 1, { slots: 8 }), work(1, 1, { slots: 3 })],
    limits: { pages: 0 },
    expected: "missing 1",
  },
  {
    name: "a shared last page has to be copied first",
    works: [work(0, 1, { slots: 6, copies: true })],
    limits: { pages: 0 },
    expected: "missing 1",
  },
  {
    name: "work that needs no page goes when there is none",
    works: [work(0, 1, { slots: 6 }), work(1, 1, { slots: 8 }), work(2, 2, { slots: 1 })],
    limits: { pages: 0 },
    expected: "1! - 2!",
  },
];

for (const { name, works, limits, expected } of tables) {
  Deno.test(`plan() ${name}`, () => assertEquals(taken(works, limits), expected));
}

const anyWork = fc.record({
  request: fc.integer({ min: 0, max: 3 }),
  tokens: fc.integer({ min: 1, max: 60 }),
  atomic: fc.constantFrom(0, 0, 0, 3, 40),
  slots: fc.integer({ min: 0, max: 30 }),
  copies: fc.boolean(),
}).map((one) => ({ ...one, copies: one.copies && one.slots % 4 !== 0 }));
const anyLimits = fc.record({
  stepTokens: fc.integer({ min: 1, max: 80 }),
  chunkTokens: fc.integer({ min: 1, max: 50 }),
  pages: fc.integer({ min: 0, max: 40 }),
  pageSize: fc.constant(4),
});

Deno.test("plan() keeps its limits and lets the oldest work go", () => {
  fc.assert(fc.property(fc.array(anyWork, { maxLength: 12 }), anyLimits, (works, limits) => {
    const { takes, missing } = plan(works, limits);
    assertEquals(plan(works, limits), { takes, missing });
    if (missing > 0) {
      assertEquals(takes, []);
      const least = works[0]!.tokens === 1 ? 1 + works[0]!.atomic : 1;
      assertEquals(missing, pagesFor(works[0]!, least, 4) - limits.pages);
      return;
    }
    if (works.length > 0) assertEquals(takes[0]?.work, 0);
    let tokens = 0, pages = 0;
    takes.forEach((take, i) => {
      const work = works[take.work]!;
      const total = take.tokens + (take.final ? work.atomic : 0);
      assert(total > 0 && take.tokens <= work.tokens);
      assert(!take.final || take.tokens === work.tokens, "final means all of it");
      assert(i === 0 || take.work > takes[i - 1]!.work, "in the order of the work");
      const mayExceed = take.work === 0 && take.final && work.atomic > 0;
      assert(total <= limits.chunkTokens || mayExceed);
      if (!mayExceed || total <= limits.stepTokens) tokens += total;
      pages += pagesFor(work, total, 4);
    });
    assert(tokens <= limits.stepTokens && pages <= limits.pages);
  }));
});

Deno.test("plan() gives requests that could use more equally much, to a few tokens", () => {
  fc.assert(fc.property(fc.array(anyWork, { maxLength: 12 }), anyLimits, (given, limits) => {
    const works = given.map((work) => ({ ...work, atomic: 0 }));
    const { takes } = plan(works, { ...limits, pages: 10_000 });
    const got = new Map<number, number>(), hungry = new Set<number>();
    works.forEach(({ request, tokens }, i) => {
      const take = takes.find(({ work }) => work === i)?.tokens ?? 0;
      got.set(request, (got.get(request) ?? 0) + take);
      if (take < Math.min(tokens, limits.chunkTokens)) hungry.add(request);
    });
    for (const one of hungry) {
      for (const tokens of got.values()) assert(got.get(one)! >= tokens - 16);
    }
  }));
});
