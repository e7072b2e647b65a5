/** Ways to decode under a constraint. */
import type { Constraint } from "../../runtime/mod.ts";
import type { Way } from "./_run.ts";

/** A way, and what it is told of the constraint. */
export interface ConstrainedWay extends Way {
  readonly label: string;
  /** `judged`: it may only ask about one token at a time. */
  readonly constrained: "no" | "mask" | "judged";
}

/** Masking token by token: what the others are held against. */
export const masking: ConstrainedWay = {
  label: "mask",
  strategy: "sample",
  constrained: "mask",
};

function awrs(
  label: string,
  params: Readonly<Record<string, unknown>> = {},
  constrained: ConstrainedWay["constrained"] = "mask",
): ConstrainedWay {
  return { label, strategy: "awrs", params, constrained };
}

/** One particle and several, with a mask and without. */
export const ways: readonly ConstrainedWay[] = [
  { label: "no constraint", strategy: "sample", constrained: "no" },
  masking,
  awrs("awrs"),
  awrs("awrs, no mask", {}, "judged"),
  awrs("awrs, no mask, no weights", { proper_weights: false }, "judged"),
  awrs("5 particles, no resampling", { n_particles: 5, ess_threshold: 0 }),
  awrs("5 particles", { n_particles: 5 }),
  awrs("5 particles, no mask", { n_particles: 5 }, "judged"),
];

/** More and more particles. */
export const crowds: readonly ConstrainedWay[] = [
  masking,
  ...[5, 20, 60].map((n) => awrs(`awrs ${n}`, { n_particles: n })),
  ...[5, 20].map((n) => awrs(`awrs ${n}, no mask`, { n_particles: n }, "judged")),
];

/** The constraint as a way is told of it. */
export function constraintFor(
  { constrained }: ConstrainedWay,
  constraint: Constraint,
): Constraint | undefined {
  if (constrained === "no") return undefined;
  return constrained === "judged" ? withoutMask(constraint) : constraint;
}

/** The constraint as a predicate that can only judge one token at a time. */
function withoutMask({ name, start, advance, accepting }: Constraint): Constraint {
  return { name: `${name}, judged`, start, advance, accepting };
}
