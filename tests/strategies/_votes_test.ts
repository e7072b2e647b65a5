import { assertEquals } from "@std/assert";
import { createRng, seedFrom } from "../../runtime/mod.ts";
import { extractAnswer, majority } from "../../strategies/_votes.ts";

Deno.test("extractAnswer() finds the last number, in one form", () => {
  const cases: [string, string | undefined][] = [
    ["12 + 30 = 42.", "42"],
    ["so the answer is -7", "-7"],
    ["1,200.50 dollars", "1200.5"],
    ["007", "7"],
    ["0.500", "0.5"],
    ["3.0", "3"],
    ["10", "10"],
    ["-0", "0"],
    ["1,2", "2"],
    ["1,2345", "2345"],
    ["x=5, y=6,", "6"],
    ["5-3", "-3"],
    ["", undefined],
    ["no digits", undefined],
  ];
  for (const [text, answer] of cases) {
    assertEquals(extractAnswer(text, "last-number"), answer, text);
  }
});

Deno.test("extractAnswer() takes the last line or the whole text, spaces evened out", () => {
  assertEquals(extractAnswer("first\n the  end \n\n", "last-line"), "the end");
  assertEquals(extractAnswer("one", "last-line"), "one");
  assertEquals(extractAnswer(" a\n b ", "text"), "a b");
  assertEquals(extractAnswer(" \n ", "last-line"), undefined);
  assertEquals(extractAnswer("", "text"), undefined);
});

Deno.test("majority() takes the most common answer, the earliest of equals", () => {
  const vote = (...answers: (string | undefined)[]) => majority(answers);
  assertEquals(vote("a", "b", "b"), { winner: 1, votes: 2, answered: 3, distinct: 2 });
  assertEquals(vote("a", "b", "b", "a").winner, 0);
  assertEquals(vote(undefined, "b", undefined), { winner: 1, votes: 1, answered: 1, distinct: 1 });
  assertEquals(vote(undefined, undefined), { winner: 0, votes: 0, answered: 0, distinct: 0 });
});

Deno.test("the order of samples never changes a strict winner", () => {
  const rng = createRng(seedFrom(2));
  for (let round = 0; round < 500; round++) {
    const answers = Array.from({ length: 9 }, () => "abc"[Math.floor(rng.next() * 3)]!);
    const counts = [..."abc"].map((x) => answers.filter((answer) => answer === x).length);
    const best = Math.max(...counts);
    if (counts.filter((count) => count === best).length > 1) continue;
    const shuffled = answers.toSorted(() => rng.next() - 0.5);
    assertEquals(shuffled[majority(shuffled).winner], answers[majority(answers).winner]);
  }
});
