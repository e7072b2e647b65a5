/** Errors of the strategies floor. */

/** A model that does not fit its role beside the others. */
export class RoleError extends RangeError {
  override readonly name = "RoleError";
  constructor(readonly strategy: string, readonly role: string, readonly detail: string) {
    super(
      `Strategy ${strategy} cannot use the model given as role ${JSON.stringify(role)}: ${detail}`,
    );
  }
}

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
