/** How proposals are drawn and checked against a law: by chance, or by noise of the position. */
import { type Seed, tokenGumbel, type TokenId } from "../runtime/mod.ts";
import type { Chance } from "./_chance.ts";
import { residual } from "./_verify_rules.ts";

/** Draws and checks of one sequence. */
export interface Decider {
  /** @param position place in the sequence, 0-based */
  draw(law: Float64Array, position: number): TokenId;
  /** The token of a position for which `token` was drawn with `proposed`: itself if it is kept. */
  check(
    token: TokenId,
    proposed: Float64Array,
    law: Float64Array,
    position: number,
  ): { readonly kept: boolean; readonly token: TokenId };
}

/** Keeps x with probability min(1, r(x) / w(x)), otherwise draws from what is left of r above w. */
export function ratioDecider(chance: Chance): Decider {
  return {
    draw: (law) => chance.draw(law),
    check(token, proposed, law) {
      if (chance.coin(law[token]!, proposed[token]!)) return { kept: true, token };
      return { kept: false, token: chance.draw(residual(law, { token, law: proposed }, 1)) };
    },
  };
}

/** Every pick is the arg max of log-probability plus noise: who proposed does not show. */
export function coupledDecider(seed: Seed): Decider {
  const draw = (law: Float64Array, position: number) => pickWithNoise(law, seed, position);
  return {
    draw,
    check(token, _proposed, law, position) {
      const picked = draw(law, position);
      return { kept: picked === token, token: picked };
    },
  };
}

/** Draws from `law` by the noise keyed by (seed, position, token), as the sampler does. */
export function pickWithNoise(law: Float64Array, seed: Seed, position: number): TokenId {
  const noise = new Float64Array(4);
  let block = -1;
  let winner = -1;
  let highest = -Infinity;
  for (let token = 0; token < law.length; token++) {
    if (law[token] === 0) continue;
    if (token >> 2 !== block) tokenGumbel(noise, seed, position, block = token >> 2);
    const value = Math.log(law[token]!) + noise[token & 3]!;
    if (value > highest) {
      highest = value;
      winner = token;
    }
  }
  return winner;
}
