/** Three-valued truth: what is known while the value is still being written. */

/** Not decided yet. */
export const open = 0;
/** Holds, whatever follows. */
export const pass = 1;
/** Fails, whatever follows. */
export const fail = 2;

export type Verdict = typeof open | typeof pass | typeof fail;

export function and(a: Verdict, b: Verdict): Verdict {
  if (a === fail || b === fail) return fail;
  return a === pass && b === pass ? pass : open;
}

export function or(a: Verdict, b: Verdict): Verdict {
  if (a === pass || b === pass) return pass;
  return a === fail && b === fail ? fail : open;
}

export function not(a: Verdict): Verdict {
  return a === pass ? fail : a === fail ? pass : open;
}

/** `then` where the test holds, `otherwise` where it does not. */
export function choose(test: Verdict, then: Verdict, otherwise: Verdict): Verdict {
  if (test === open) return then === otherwise ? then : open;
  return test === pass ? then : otherwise;
}

/** Exactly one of the verdicts holds. */
export function exactlyOne(verdicts: readonly Verdict[]): Verdict {
  const passes = verdicts.filter((v) => v === pass).length;
  const opens = verdicts.filter((v) => v === open).length;
  if (passes > 1 || (passes === 0 && opens === 0)) return fail;
  return opens === 0 ? pass : open;
}
