/** Rules between models as laws of two or three rows. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { createRng, seedFrom } from "../../runtime/mod.ts";
import type { CascadeParams } from "../../strategies/_collaboration_params.ts";
import { ownLaw } from "../../strategies/_combine.ts";
import { plain, rule, settings, shape } from "./_collaboration_settings.ts";

function logs(...laws: readonly (readonly number[])[]): Float32Array[] {
  return laws.map((law) => Float32Array.from(law, Math.log));
}

function randomLaw(next: () => number): number[] {
  const shares = Array.from({ length: 5 }, () => next() ** 2 + 1e-3);
  const total = shares.reduce((sum, share) => sum + share, 0);
  return shares.map((share) => share / total);
}

function assertLaw(actual: Float64Array, expected: ArrayLike<number>, message = ""): void {
  Array.from(expected, (p, v) => assertAlmostEquals(actual[v]!, p, 1e-6, message));
}

Deno.test("every rule gives a distribution, with and without temperature, filters and masks", () => {
  const rng = createRng(seedFrom(1));
  for (let i = 0; i < 50; i++) {
    const all = [0, 1, 2].map(() => Float32Array.from(randomLaw(() => rng.next()), Math.log));
    for (const options of settings) {
      const rows = all.slice(0, options.rule === "proxy" ? 3 : 2);
      for (const sampling of [plain, { ...plain, temperature: 0 }, { ...plain, topP: 0.8 }]) {
        for (const mask of [undefined, Uint32Array.of(0b10110)]) {
          const law = rule(options).law(rows, { ...shape, sampling, mask });
          const total = law.reduce((sum, p) => sum + p, 0);
          assertAlmostEquals(total, 1, 1e-9, JSON.stringify(options));
          assert(law.every((p, v) => p >= 0 && (!mask || p === 0 || [1, 2, 4].includes(v))));
        }
      }
    }
  }
});

Deno.test("end points: always, never, contrast at 1, mix at 0 and 1, proxy without difference", () => {
  const rng = createRng(seedFrom(2));
  for (let i = 0; i < 20; i++) {
    const [p, q, t] = [0, 1, 2].map(() => randomLaw(() => rng.next()));
    const law = (options: Partial<CascadeParams>, third = t!) =>
      rule(options).law(logs(p!, q!, ...options.rule === "proxy" ? [third] : []), shape);
    assertLaw(law({ rule: "always" }), p!);
    assertLaw(law({ rule: "never" }), q!);
    assertLaw(law({ rule: "contrast", beta: 1, plausibility: 1e-9 }), p!);
    assertLaw(law({ rule: "contrast", beta: 0, plausibility: 1e-9 }), q!);
    assertLaw(law({ rule: "mix", lambda: 0 }), p!);
    assertLaw(law({ rule: "mix", lambda: 1 }), q!);
    assertLaw(law({ rule: "proxy", strength: 0 }), p!);
    assertLaw(law({ rule: "proxy" }, q!), p!);
    assertLaw(law({ rule: "token-v3", alpha: 1 }), q!);
    assertLaw(law({ rule: "chow", alpha: 1 }), q!);
    assertLaw(law({ rule: "chow", alpha: 0 }), p!);
    assertEquals(law({ rule: "opt", alpha: 0 }), law({ rule: "diff", alpha: 0 }));
    for (const name of ["diff", "opt"] as const) {
      assertLaw(rule({ rule: name, alpha: 0 }).law(logs(p!, p!), shape), p!);
      assertLaw(rule({ rule: "opt", alpha: 999 }).law(logs(p!, p!), shape), p!);
    }
  }
});

Deno.test("token-v3 at alpha 0 over-weights the mode: not the large model unless it is greedy", () => {
  const rows = logs([0.6, 0.3, 0.1], [0.5, 0.4, 0.1]);
  assertLaw(rule({ alpha: 0 }).law(rows, shape), [0.8, 0.15, 0.05]);
  const greedy = { ...shape, sampling: { ...plain, temperature: 0 } };
  assertLaw(rule({ alpha: 0 }).law(rows, greedy), [1, 0, 0]);
});

Deno.test("greedy token-v3 takes the small model's best token where the large one finds it good enough", () => {
  const greedy = { ...shape, sampling: { ...plain, temperature: 0 } };
  const rows = logs([0.6, 0.35, 0.05], [0.3, 0.6, 0.1]);
  assertLaw(rule({ alpha: 0.5 }).law(rows, greedy), [0, 1, 0]);
  assertLaw(rule({ alpha: 0.4 }).law(rows, greedy), [1, 0, 0]);
});

Deno.test("the small model's share grows with alpha, acceptance is at least that; S has the large model's best token", () => {
  const rng = createRng(seedFrom(3));
  for (let i = 0; i < 40; i++) {
    const [p, q] = [0, 1].map(() => randomLaw(() => rng.next()));
    let before = 0;
    for (let alpha = 0; alpha <= 1; alpha += 0.1) {
      const law = rule({ alpha }).law(logs(p!, q!), shape);
      const accepted = law.reduce((sum, mass, v) => sum + Math.min(mass, q![v]!), 0);
      const best = p!.indexOf(Math.max(...p!));
      assert(law[best]! >= q![best]! - 1e-6);
      const floor = (1 - alpha) * Math.max(...p!);
      const share = q!.reduce((sum, mass, v) => p![v]! >= floor + 1e-6 ? sum + mass : sum, 0);
      assert(accepted >= share - 1e-6, `${accepted} below q(S) ${share}`);
      assert(share >= before, `${share} after ${before}`);
      before = share;
    }
  }
});

Deno.test("criteria ignore temperature and filters, and see the mask", () => {
  const rows = logs([0.5, 0.3, 0.2], [0.45, 0.35, 0.2]);
  const chow = rule({ rule: "chow", alpha: 0.5 });
  const large = ownLaw(rows[0]!, { ...shape, sampling: { ...plain, temperature: 0.2 } });
  // At temperature 0.2 the small model would look sure of itself.
  const cold = { ...shape, sampling: { ...plain, temperature: 0.2 } };
  assertLaw(chow.law(rows, cold), large);
  // Two tokens are left: now it is.
  const masked = chow.law(rows, { ...shape, mask: Uint32Array.of(0b101) });
  assertLaw(masked, [0.45 / 0.65, 0, 0.2 / 0.65]);
});
