/** Errors of the strategies floor. */

/** A parameter that does not validate. */
export class StrategyParamError extends RangeError {
  override readonly name = "StrategyParamError";
  constructor(
    readonly strategy: string,
    /** Dotted path inside `decoding.params`, or "n" for the number of choices. */
    readonly param: string,
    readonly detail: string,
  ) {
    super(`Invalid parameter ${JSON.stringify(param)} of strategy ${strategy}: ${detail}`);
  }
}
