import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import type { Chance } from "../../strategies/_chance.ts";
import {
  type Draft,
  residual,
  type TargetLaw,
  type Verdict,
  verifyBlock,
  verifyCoupled,
  verifyRatio,
  verifySiblings,
} from "../../strategies/_verify_rules.ts";
import { hashLaw, lawOf, productLaw, roundsLaw, totalVariation } from "./_enumerate.ts";

type Law = (prefix: readonly number[]) => Float64Array;
type Rule = (drafts: readonly Draft[], law: TargetLaw, chance: Chance) => Verdict;

const p = hashLaw(1, 3);
const q = hashLaw(2, 3);
const depth = 4;

interface Loop {
  readonly rule: Rule;
  readonly gamma: number;
  readonly target?: Law;
  readonly draft?: Law;
  /** Proposals of a round, given what was drawn. @default all */
  readonly keep?: (drafts: readonly Draft[]) => readonly Draft[];
}

/** One round after `made`. */
function round(
  { rule, gamma, target = p, draft = q, keep }: Loop,
  made: readonly number[],
  chance: Chance,
): readonly number[] {
  const drafts: Draft[] = [];
  while (drafts.length < gamma) {
    const law = draft([...made, ...drafts.map(({ token }) => token)]);
    drafts.push({ token: chance.draw(law), law });
  }
  const kept = keep ? keep(drafts) : drafts;
  const tokens = kept.map(({ token }) => token);
  const law = (i: number) => target([...made, ...tokens.slice(0, i)]);
  const { accepted, token } = rule(kept, law, chance);
  return [...tokens.slice(0, accepted), token!];
}

async function distance(loop: Loop): Promise<number> {
  const law = await roundsLaw((made, chance) => round(loop, made, chance), depth);
  return totalVariation(law, productLaw(loop.target ?? p, depth));
}

for (const [name, rule] of [["ratio", verifyRatio], ["block", verifyBlock]] as const) {
  Deno.test(`${name}: the law of four tokens is the target's, for 1 to 3 proposals`, async () => {
    for (const gamma of [1, 2, 3]) {
      assertAlmostEquals(await distance({ rule, gamma }), 0, 1e-12);
    }
  });

  Deno.test(`${name}: the law is the target's where laws have zeros, agree or never overlap`, async () => {
    const oneHot: Law = (prefix) =>
      Float64Array.from([0, 1, 2], (i) => i === prefix.length % 3 ? 1 : 0);
    const half: Law = () => Float64Array.of(0.5, 0.5, 0);
    const last: Law = () => Float64Array.of(0, 0, 1);
    const pairs = [[p, oneHot], [oneHot, q], [half, last], [last, half], [half, q], [p, half], [
      p,
      p,
    ]];
    for (const [target, draft] of pairs as [Law, Law][]) {
      assertAlmostEquals(await distance({ rule, gamma: 2, target, draft }), 0, 1e-12);
    }
  });

  Deno.test(`${name}: ending proposals by a drawn token is exact if the token stays`, async () => {
    const until = (drafts: readonly Draft[]) => {
      const end = drafts.findIndex(({ token }) => token === 0);
      return end < 0 ? drafts : drafts.slice(0, end + 1);
    };
    assertAlmostEquals(await distance({ rule, gamma: 3, keep: until }), 0, 1e-12);
    const dropped = (drafts: readonly Draft[]) => {
      const end = drafts.findIndex(({ token }) => token === 0);
      return end < 0 ? drafts : drafts.slice(0, end);
    };
    assert(await distance({ rule, gamma: 3, keep: dropped }) > 0.02); // negative control
  });

  Deno.test(`${name}: a draft that is the target keeps every proposal`, async () => {
    const law = await lawOf((chance) => {
      const drafts: Draft[] = [];
      for (let i = 0; i < 3; i++) {
        const row = p(drafts.map(({ token }) => token));
        drafts.push({ token: chance.draw(row), law: row });
      }
      return rule(drafts, (i) => p(drafts.slice(0, i).map(({ token }) => token)), chance).accepted;
    });
    assertAlmostEquals(law.get("3") ?? 0, 1, 1e-12);
  });
}

Deno.test("negative controls: wrong bonus, wrong residual and mixed rules change the law", async () => {
  const wrong: Record<string, Rule> = {
    "bonus from the draft": (drafts, law, chance) => {
      const verdict = verifyRatio(drafts, law, chance);
      if (verdict.accepted < drafts.length) return verdict;
      return { ...verdict, token: chance.draw(drafts.at(-1)!.law!) };
    },
    "redraw from the target": (drafts, law, chance) => {
      const verdict = verifyRatio(drafts, law, chance);
      return { ...verdict, token: chance.draw(law(verdict.accepted)!) };
    },
    "block acceptance with the residual of one token": (drafts, law, chance) => {
      const verdict = verifyBlock(drafts, law, chance);
      const draft = drafts[verdict.accepted];
      if (!draft) return verdict;
      return { ...verdict, token: chance.draw(residual(law(verdict.accepted)!, draft, 1)) };
    },
  };
  for (const [name, rule] of Object.entries(wrong)) {
    const off = await distance({ rule, gamma: 2 });
    assert(off > 1e-4, `${name}: ${off}`); // the right ones are within 1e-12
  }
});

Deno.test("block keeps at least as many tokens as ratio, and more from two proposals on", async () => {
  const expected = async (rule: Rule, gamma: number) => {
    const law = await lawOf((chance) => {
      const drafts: Draft[] = [];
      while (drafts.length < gamma) {
        const row = q(drafts.map(({ token }) => token));
        drafts.push({ token: chance.draw(row), law: row });
      }
      return rule(drafts, (i) => p(drafts.slice(0, i).map(({ token }) => token)), chance).accepted;
    });
    return [...law].reduce((sum, [accepted, weight]) => sum + Number(accepted) * weight, 1);
  };
  assertAlmostEquals(await expected(verifyBlock, 1), await expected(verifyRatio, 1), 1e-12);
  for (const gamma of [2, 3, 4]) {
    assert(await expected(verifyBlock, gamma) > await expected(verifyRatio, gamma) + 1e-3);
  }
});

Deno.test("ratio: laws without a context keep (1 - a^(g+1)) / (1 - a) tokens per round", async () => {
  const target = Float64Array.of(0.6, 0.3, 0.1);
  const draft = Float64Array.of(0.2, 0.5, 0.3);
  const a = 0.2 + 0.3 + 0.1;
  for (const gamma of [1, 2, 4]) {
    const law = await lawOf((chance) => {
      const drafts = Array.from(
        { length: gamma },
        () => ({ token: chance.draw(draft), law: draft }),
      );
      return verifyRatio(drafts, () => target, chance).accepted + 1;
    });
    const mean = [...law].reduce((sum, [tokens, weight]) => sum + Number(tokens) * weight, 0);
    assertAlmostEquals(mean, (1 - a ** (gamma + 1)) / (1 - a), 1e-12);
  }
});

Deno.test("verifyCoupled() keeps what equals the picks and adds the first that differs", () => {
  const drafts = [5, 6, 7].map((token) => ({ token, law: undefined }));
  const verdict = (picks: readonly (number | undefined)[]) =>
    verifyCoupled(drafts, (i) => picks[i]);
  assertEquals(verdict([5, 6, 7, 8]), { accepted: 3, token: 8 });
  assertEquals(verdict([5, 6, 7, undefined]), { accepted: 3, token: undefined });
  assertEquals(verdict([5, 9, 7, 8]), { accepted: 1, token: 9 });
  assertEquals(verdict([4]), { accepted: 0, token: 4 });
});

/** Law of the token after a node: children drawn without replacement from q, then the rule. */
async function siblingsLaw(
  p: Float64Array,
  q: Float64Array,
  count: number,
  verify = verifySiblings,
): Promise<{ readonly law: ReadonlyMap<string, number>; readonly kept: number }> {
  let kept = 0;
  const outcomes = await lawOf((chance) => {
    const rest = q.slice();
    const children: number[] = [];
    while (children.length < count && rest.some((mass) => mass > 0)) {
      const token = chance.draw(rest);
      children.push(token);
      rest[token] = 0;
    }
    const token = verify(p, children, q, chance);
    return { token, isChild: children.includes(token) };
  });
  const law = new Map<string, number>();
  for (const [key, probability] of outcomes) {
    const { token, isChild } = JSON.parse(key) as { token: number; isChild: boolean };
    if (isChild) kept += probability;
    law.set(`${token}`, (law.get(`${token}`) ?? 0) + probability);
  }
  return { law, kept };
}

const asLaw = (p: Float64Array) => new Map(Array.from(p, (mass, token) => [`${token}`, mass]));

Deno.test("siblings: the token after a node follows the target's law, for 1 to 4 children", async () => {
  for (let seed = 1; seed <= 12; seed++) {
    const p = hashLaw(seed, 4)([]), q = hashLaw(seed + 40, 4, 3)([]);
    let before = 0;
    for (let count = 1; count <= 4; count++) {
      const { law, kept } = await siblingsLaw(p, q, count);
      assertAlmostEquals(totalVariation(law, asLaw(p)), 0, 1e-12);
      assert(kept >= before - 1e-12, `${kept} with ${count} children, ${before} with fewer`);
      before = kept;
      if (count > 1) continue;
      const overlap = p.reduce((sum, mass, v) => sum + Math.min(mass, q[v]!), 0);
      // A token drawn from the residual is never the child: that is where q is above p.
      assertAlmostEquals(kept, overlap, 1e-12);
    }
    assertAlmostEquals(before, 1, 1e-12); // all tokens are children
  }
});

Deno.test("siblings that were chosen, not drawn: the target decides", async () => {
  const p = hashLaw(3, 4)([]);
  const law = await lawOf((chance) => verifySiblings(p, [2, 0], undefined, chance));
  assertAlmostEquals(totalVariation(law, asLaw(p)), 0, 1e-12);
});

Deno.test("negative control: siblings checked as if drawn with replacement change the law", async () => {
  const withReplacement: typeof verifySiblings = (p, children, q, chance) => {
    let target = p;
    for (const token of children) {
      if (chance.coin(target[token]!, q![token]!)) return token;
      const rest = target.map((mass, v) => Math.max(0, mass - q![v]!));
      const left = rest.reduce((sum, mass) => sum + mass, 0);
      if (left === 0) break;
      target = rest.map((mass) => mass / left);
    }
    return chance.draw(target);
  };
  const p = hashLaw(1, 4)([]), q = hashLaw(41, 4, 3)([]);
  const { law } = await siblingsLaw(p, q, 3, withReplacement);
  assert(totalVariation(law, asLaw(p)) > 0.01, `${totalVariation(law, asLaw(p))}`);
});
