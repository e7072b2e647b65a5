/** Draws that the backend makes, so that tokens come back and not their rows of logits. */
import type { Backend, Drawn, DrawSpec, Tensor } from "../backend/backend.ts";
import type { Row, Want } from "./executor.ts";

type SampleWant = Extract<Want, { readonly kind: "sample" }>;

/** The draws of a step, by want. */
export type Draws = ReadonlyMap<SampleWant, DrawSpec>;

/**
 * The draws of all rows. Undefined if there are none, or logits are wanted for anything else, since
 * they then come to the host anyway; where the host can look at them (`view`), it does what is left.
 *
 * @param lastLogits per row, the number of its last token's row of logits
 */
export function planDraws(
  rows: readonly Row[],
  lastLogits: readonly number[],
  { canDraw, view }: Backend,
  vocab: number,
): Draws | undefined {
  if (canDraw === undefined) return undefined;
  const isOnHost = view !== undefined;
  const draws = new Map<SampleWant, DrawSpec>();
  for (const [r, row] of rows.entries()) {
    for (const want of row.wants) {
      if (want.kind === "hidden" || want.kind === "signal") continue;
      if (want.kind !== "sample" || ((want.topLogprobs > 0 || want.mass) && !isOnHost)) {
        if (isOnHost) continue;
        return undefined;
      }
      const draw = drawOf(want, row, lastLogits[r]!);
      if (canDraw(draw, vocab)) draws.set(want, draw);
      else if (!isOnHost) return undefined;
    }
  }
  return draws.size === 0 ? undefined : draws;
}

/** A draw from a row of logits, by its number. */
export function drawOf(want: SampleWant, row: Row, logits: number): DrawSpec {
  return {
    row: logits,
    position: positionOf(row),
    sampling: want.sampling,
    mask: want.mask,
    promptTokens: want.promptTokens,
    completionTokens: want.completionTokens,
    topLogprobs: want.topLogprobs,
    ...want.mass && { mass: true },
  };
}

/** Where the drawn token would stand: right after the row. */
export function positionOf(row: Row): number {
  return row.next ?? row.positions[row.positions.length - 1]! + 1;
}

/**
 * What the draws came to, by want. Those missing are for the host to make; undefined if there are such
 * and the logits have to be read for it.
 */
export async function readDraws(
  backend: Backend,
  draws: Draws,
  result: Tensor,
): Promise<ReadonlyMap<Want, Drawn> | undefined> {
  const found = await backend.drawn!(result, [...draws.values()]);
  const drawn = new Map<Want, Drawn>();
  for (const [i, want] of [...draws.keys()].entries()) {
    const one = found[i];
    if (one !== undefined) drawn.set(want, one);
    else if (backend.view === undefined) return undefined;
  }
  return drawn;
}
