/** What crosses between an engine and the Worker its model computes in. */
import {
  BackendError,
  ClosedError,
  DeviceLostError,
  EngineError,
  FormatError,
  NotFoundError,
  ShapeError,
} from "../errors.ts";
import type { Batch, BatchResult, ExecutorInfo } from "./executor.ts";
import type { ModelExecutorSpec } from "./model_executor.ts";

/** To the Worker. */
export type WorkerRequest =
  | { readonly type: "load"; readonly spec: ModelExecutorSpec }
  | { readonly type: "execute"; readonly batch: Batch }
  | { readonly type: "close" };

/** From the Worker: one per request, in order; "state" comes unasked. */
export type WorkerReply =
  | { readonly type: "state"; readonly isReady: boolean }
  | { readonly type: "loaded"; readonly info: ExecutorInfo; readonly parameters: number }
  | { readonly type: "result"; readonly result: BatchResult }
  | { readonly type: "closed" }
  | { readonly type: "failed"; readonly error: PlainError };

/** An error as data: structured clones lose classes and fields of our own. */
export interface PlainError {
  readonly name: string;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

const classes = {
  BackendError,
  ClosedError,
  DeviceLostError,
  EngineError,
  FormatError,
  NotFoundError,
  RangeError,
  ShapeError,
  TypeError,
} as const;

/** Takes an error apart; causes stay behind. */
export function plainError(error: unknown): PlainError {
  if (!(error instanceof Error)) return { name: "EngineError", message: String(error), fields: {} };
  const { name, message } = error;
  const fields = Object.entries(error).filter(([key, value]) =>
    key !== "cause" && key !== "name" && isPlain(value)
  );
  return { name, message, fields: Object.fromEntries(fields) };
}

function isPlain(value: unknown): boolean {
  return ["string", "number", "boolean", "undefined"].includes(typeof value) ||
    Array.isArray(value) && value.every(isPlain);
}

/** Puts an error together again; unknown classes become EngineError. */
export function reviveError({ name, message, fields }: PlainError): Error {
  const known = Object.hasOwn(classes, name) ? name as keyof typeof classes : "EngineError";
  const error = new Error(message);
  Object.setPrototypeOf(error, classes[known].prototype);
  return Object.assign(error, fields, { name: known });
}
