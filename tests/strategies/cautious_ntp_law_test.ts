/** How many trials an entropy gets, and the exact law of what wins. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { seedFrom } from "../../runtime/mod.ts";
import { type Schedule, trialsAt } from "../../strategies/cautious_ntp.ts";
import { assertDistribution, chiSquare, chiSquareTail } from "../_statistics.ts";
import { requestOf, runToEnd } from "../conformance/_strategy_run.ts";
import { fakeVocab, tableModel } from "../fakes/mod.ts";

function scheduleOf(changes: Partial<Schedule> = {}): Schedule {
  return { n_max: 10, h_min: 0.01, h_max: 1.5, schedule: "code", ...changes };
}

Deno.test("trialsAt() gives the published table for both schedules", () => {
  const entropies = [0.17, 0.2, 0.3, 0.43, 0.5, 0.92, 1.2, 1.45, 1.5, 3];
  const counts = (schedule: Schedule["schedule"]) =>
    entropies.map((entropy) => trialsAt(entropy, scheduleOf({ schedule })));
  assertEquals(counts("paper"), [1, 1, 1, 2, 3, 6, 7, 9, 10, 10]);
  assertEquals(counts("code"), [1, 2, 2, 3, 3, 6, 8, 9, 10, 10]);
  const second = (schedule: Schedule["schedule"]) => {
    let low = 0, high = 1.5;
    for (let i = 0; i < 60; i++) {
      const middle = (low + high) / 2;
      if (trialsAt(middle, scheduleOf({ schedule })) >= 2) high = middle;
      else low = middle;
    }
    return high;
  };
  assertAlmostEquals(second("paper"), 0.308, 1e-9);
  assertAlmostEquals(second("code"), 0.01 + 1.49 / 9, 1e-9); // 0.1756
});

Deno.test("trialsAt() grows from 1 at h_min to n_max at h_max, and falls for negative", () => {
  for (const schedule of ["code", "paper", "negative", "fixed"] as const) {
    for (const most of [1, 2, 7, 64]) {
      const at = (entropy: number) => trialsAt(entropy, scheduleOf({ n_max: most, schedule }));
      const counts = Array.from({ length: 400 }, (_, i) => at(i / 200));
      assert(counts.every((count) => count >= 1 && count <= most));
      const sign = schedule === "negative" ? -1 : 1;
      assert(counts.every((count, i) => i === 0 || sign * (count - counts[i - 1]!) >= 0));
      const [low, high] = schedule === "negative" ? [most, 1] : [1, most];
      assertEquals([at(0), at(0.01), at(1.5), at(20)], [
        ...schedule === "fixed" ? [most, most] : [low, low],
        high,
        high,
      ]);
    }
  }
});

Deno.test("the winner of one-token trials follows the closed form, not the model", async () => {
  const probabilities = { a: 0.4, b: 0.3, c: 0.2, d: 0.1 };
  const vocab = fakeVocab({ pieces: Object.keys(probabilities), chat: false });
  const model = tableModel({ vocab, table: { "": probabilities } });
  const p = Object.values(probabilities);
  const entropy = -p.reduce((sum, x) => sum + x * Math.log(x), 0);
  for (const schedule of ["code", "fixed"] as const) {
    const most = schedule === "fixed" ? 3 : 10;
    const count = trialsAt(entropy, scheduleOf({ schedule, n_max: most }));
    assertEquals(count, schedule === "fixed" ? 3 : 8);
    // S(v)^N - S'(v)^N: the winner is the most probable of N independent draws.
    const best = p.map((x) => {
      const mass = (below: (y: number) => boolean) =>
        p.reduce((sum, y) => below(y) ? sum + y : sum, 0);
      return mass((y) => y <= x) ** count - mass((y) => y < x) ** count;
    });
    const texts = p.flatMap((_, i) => p.map((_, j) => "abcd"[i]! + "abcd"[j]!));
    const runs = Array.from(
      { length: 3000 },
      (_, seed) =>
        runToEnd(requestOf("cautious-ntp", model, {
          prompt: [1],
          maxTokens: 2,
          params: { schedule, n_max: most, stop_chars: "abcd" },
          sampling: { seed: seedFrom(seed) },
        })),
    );
    const counts = texts.map(() => 0);
    for (const { choices } of await Promise.all(runs)) counts[texts.indexOf(choices[0]!.text)]!++;
    const product = (of: readonly number[]) => of.flatMap((x) => of.map((y) => x * y));
    assertDistribution(counts, product(best), 5e-7, schedule);
    const plain = chiSquare(counts, product(p));
    assert(chiSquareTail(plain.value, plain.degrees) < 1e-12, "the model's own law fits as well");
  }
});

Deno.test("trials of several tokens follow their exact law, and rejected ones leave no trace", async () => {
  const vocab = fakeVocab({ pieces: [..."slyz"], chat: false });
  const next = { y: 0.7, z: 0.3 };
  const model = tableModel({ vocab, table: { "": { s: 0.5, l: 0.5 }, s: next, l: next } });
  // Of two trials ly has perplexity 1.7, s 2 and lz 2.6. After s come two trials of one token. Noise
  // of a rejected lz would favour z after s.
  const exact: Readonly<Record<string, number>> = {
    ly: 1 - 0.65 ** 2,
    lz: 0.15 ** 2,
    sy: (0.65 ** 2 - 0.15 ** 2) * (1 - 0.3 ** 2),
    sz: (0.65 ** 2 - 0.15 ** 2) * 0.3 ** 2,
  };
  const texts = Object.keys(exact);
  const counts = texts.map(() => 0);
  const runs = Array.from({ length: 8000 }, (_, seed) =>
    runToEnd(requestOf("cautious-ntp", model, {
      prompt: [4],
      maxTokens: 2,
      params: { schedule: "fixed", n_max: 2, stop_chars: "syz" },
      sampling: { seed: seedFrom(seed) },
    })));
  for (const { choices } of await Promise.all(runs)) counts[texts.indexOf(choices[0]!.text)]!++;
  assertDistribution(counts, Object.values(exact), 1e-6);
});
