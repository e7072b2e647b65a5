/** What crosses between the gateway and the Worker that compiles constraints. */
import { FormatError } from "../errors.ts";
import { DeadlineError } from "./deadline_error.ts";
import { ConstraintTooComplexError } from "./regex/budget.ts";
import type { CompiledConstraint, ConstraintLimits, ConstraintSpec } from "./spec.ts";

/** To the Worker; answered in order. */
export type CompileRequest =
  | {
    readonly type: "compile";
    readonly spec: ConstraintSpec;
    readonly limits: ConstraintLimits;
    readonly limitMs: number;
  }
  | {
    readonly type: "check";
    readonly spec: ConstraintSpec;
    readonly limits: ConstraintLimits;
    readonly limitMs: number;
    readonly text: string;
  };

/** From the Worker. */
export type CompileReply =
  | { readonly type: "compiled"; readonly compiled: CompiledConstraint }
  | { readonly type: "checked"; readonly isValid: boolean }
  | { readonly type: "failed"; readonly error: PlainFailure };

/** An error as data. */
export interface PlainFailure {
  readonly name: string;
  readonly message: string;
  readonly source?: string | undefined;
  readonly offset?: number | undefined;
  readonly what?: string | undefined;
  readonly limit?: number | undefined;
}

/** Takes an error apart. */
export function plainFailure(error: unknown): PlainFailure {
  if (error instanceof FormatError) {
    const { name, message, source, offset } = error;
    return { name, message, source, offset };
  }
  if (error instanceof ConstraintTooComplexError) {
    const { name, message, what, limit } = error;
    return { name, message, what, limit };
  }
  if (error instanceof DeadlineError) {
    return { name: error.name, message: error.message, limit: error.limitMs };
  }
  if (error instanceof Error) return { name: error.name, message: error.message };
  return { name: "Error", message: String(error) };
}

/** Puts it together again, with its class where the gateway tells classes apart. */
export function reviveFailure({ name, message, source, offset, what, limit }: PlainFailure): Error {
  if (name === "FormatError") {
    const error = new FormatError("", { source: source ?? "", offset });
    return Object.assign(error, { message });
  }
  if (name === "ConstraintTooComplexError") {
    return new ConstraintTooComplexError(what ?? "", limit ?? 0);
  }
  if (name === "DeadlineError") return new ConstraintTooComplexError("ms of compiling", limit ?? 0);
  return name === "RangeError" ? new RangeError(message) : new Error(message);
}
