/** Laws of sessions as values: forks, truncation, appending, crowds. */
import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import type { TokenId } from "../../runtime/mod.ts";
import { between, type DefineLaw, type LawModel } from "./language_model.ts";

export function valueLaws(law: DefineLaw): void {
  law("forks are independent of each other and of their parent", async (context) => {
    const prompt = context.tokens(21);
    using parent = context.open(prompt);
    using early = parent.fork(); // before anything is computed
    const before = await parent.logits();
    using late = parent.fork();
    const [one, two] = [context.tokens(3), context.tokens(5)];
    early.append(one);
    late.append(two);
    assertEquals(await Promise.all([early.logits(), late.logits()]), [
      [await context.fresh([...prompt, ...one])],
      [await context.fresh([...prompt, ...two])],
    ]);
    assertEquals(parent.tokens, prompt);
    assertEquals(await parent.logits(), before);
    assertEquals(before, [await context.fresh(prompt)]);
  });

  law("forks of forks hold what they were given", async (context) => {
    const prompt = context.tokens(9);
    using root = context.open(prompt);
    await root.logits();
    let branches = [{ session: root, tokens: [...prompt] }];
    for (let depth = 0; depth < 3; depth++) {
      branches = branches.flatMap(({ session, tokens }) =>
        [1, 2].map((count) => {
          const more = context.tokens(count);
          const fork = session.fork();
          fork.append(more);
          return { session: fork, tokens: [...tokens, ...more] };
        })
      );
      const rows = await Promise.all(branches.map(({ session }) => session.logits()));
      for (const [i, { session, tokens }] of branches.entries()) {
        assertEquals(session.tokens, tokens);
        assertEquals(rows[i], [await context.fresh(tokens)]);
      }
    }
  });

  law("truncate then append equals fresh", async (context) => {
    const { rng } = context;
    for (let round = 0; round < 8; round++) {
      const rollback = between(rng, 1, 9);
      let tokens = context.tokens(between(rng, 1, 20));
      using session = context.open(tokens, rollback);
      for (let op = 0; op < 8; op++) {
        const length = between(rng, Math.max(1, session.committed), session.length);
        const more = context.tokens(between(rng, 0, 6));
        session.truncate(length);
        session.append(more);
        tokens = [...tokens.slice(0, length), ...more];
        assertEquals(session.tokens, tokens);
        if (rng.next() < 0.6) assertEquals(await session.logits(), [await context.fresh(tokens)]);
      }
    }
  });

  law(
    "truncate refuses lengths below committed, and committed never decreases",
    async (context) => {
      using session = context.open(context.tokens(12), 4);
      assertEquals(session.committed, 0);
      await session.logits();
      assertEquals(session.committed, 8);
      for (const length of [7, 13, -1, 8.5, NaN]) {
        assertThrows(() => session.truncate(length), RangeError);
      }
      session.truncate(8);
      assertEquals(session.length, 8);
      assertEquals(session.committed, 8);
      session.append(context.tokens(2));
      await session.logits();
      assertEquals(session.committed, 8);
      using fork = session.fork();
      assertThrows(() => fork.truncate(7), RangeError);
    },
  );

  law("alone equals in a crowd", async (context) => {
    const prompt = context.tokens(33);
    const alone = await followed(context, prompt, []);
    const crowd = Array.from({ length: 12 }, (_, i) => {
      // Some of them share the prompt's beginning, some do not.
      const own = i % 3 === 0 ? prompt.slice(0, 3 * i) : [];
      return [...own, ...context.tokens(between(context.rng, 1, 40))];
    });
    assertEquals(await followed(context, prompt, crowd), alone);
  });

  law("asks see the session as it was when they were made", async (context) => {
    const prompt = context.tokens(10), more = context.tokens(3);
    using session = context.open(prompt, 5);
    const whole = session.logits();
    session.append(more);
    const longer = session.logits();
    session.truncate(8);
    session.append(more.slice(0, 1));
    const other = session.logits({ last: 2 });
    assertEquals(await Promise.all([whole, longer, other]), [
      [await context.fresh(prompt)],
      [await context.fresh([...prompt, ...more])],
      [
        await context.fresh(prompt.slice(0, 8)),
        await context.fresh([...prompt.slice(0, 8), more[0]!]),
      ],
    ]);
  });

  law("tokens are compared by value: other tokens give other logits", async (context) => {
    const prompt = context.tokens(6);
    const other = [...prompt];
    while (other[0] === prompt[0]) other[0] = context.tokens(1)[0]!;
    assertNotEquals(await context.fresh(prompt), await context.fresh(other));
  });
}

/** Twenty greedy steps after `prompt`, with others asking at the same time. */
async function followed(context: LawModel, prompt: TokenId[], crowd: readonly TokenId[][]) {
  using session = context.open(prompt);
  const others = crowd.map((tokens) => context.open(tokens));
  const rows: Float32Array[] = [];
  for (let i = 0; i < 20; i++) {
    const [row] = await Promise.all([
      session.logits(),
      ...others.map((other, j) => j % 2 === 0 ? other.topk(3) : other.entropy({ last: 1 })),
    ]);
    rows.push(row[0]!);
    const best = row[0]!.indexOf(Math.max(...row[0]!));
    assert(best >= 0);
    session.append([best]);
    for (const other of others) other.append(context.tokens(1));
  }
  for (const other of others) other[Symbol.dispose]();
  return rows;
}
