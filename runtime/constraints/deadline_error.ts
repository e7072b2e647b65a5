/** What running out of time is. Free of the platform, unlike `deadline.ts`. */

/** Code ran longer than it may and was stopped. */
export class DeadlineError extends Error {
  override readonly name = "DeadlineError";
  constructor(readonly limitMs: number) {
    super(`It did not finish within ${limitMs} ms`);
  }
}

/** Runs a function that does not wait for anything. @throws {DeadlineError} | what it throws */
export type WithDeadline = <T>(run: () => T, limitMs: number) => T;
