/** zod issues -> one error with the path of the field, in words for people. */
import * as z from "zod";
import { type ApiError, invalidValue, missing } from "../errors.ts";

/**
 * Validates a body.
 *
 * @throws {ApiError} 400 `missing_required_parameter` or `invalid_value`, with the path as `param`
 */
export function validate<T>(schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  throw toError(result.error.issues, body);
}

/** The error for the first issue. */
export function toError(issues: readonly z.core.$ZodIssue[], body: unknown): ApiError {
  const issue = deepest(issues[0]!, body);
  const path = issue.path.map(String);
  const param = path.join(".");
  const value = valueAt(body, issue.path);
  if (value === undefined && issue.code !== "unrecognized_keys") {
    return missing(param, `Missing ${param === "" ? "value" : param}`);
  }
  if (issue.code === "unrecognized_keys") {
    const key = [...path, issue.keys[0] ?? ""].join(".");
    return invalidValue(key, `Unknown field ${JSON.stringify(key)}`);
  }
  return invalidValue(param, `Invalid ${param === "" ? "body" : param}: ${describe(issue, value)}`);
}

/** Inside a union, the branch that got furthest says best what is wrong. */
function deepest(issue: z.core.$ZodIssue, body: unknown): z.core.$ZodIssue {
  if (issue.code !== "invalid_union") return issue;
  if (issue.errors.length === 0) return atDiscriminator(issue);
  const value = valueAt(body, issue.path);
  let best: z.core.$ZodIssue | undefined;
  for (const branch of issue.errors) {
    const first = branch[0];
    if (!first || isOtherType(first)) continue;
    const inner = deepest({ ...first, path: [...issue.path, ...first.path] }, body);
    if (!best || rank(inner) > rank(best)) best = inner;
  }
  return best ?? { ...issue, message: `expected ${expectedTypes(issue)}, got ${kind(value)}` };
}

/** A value of the right type but out of bounds tells more than a wrong type, deeper more than not. */
function rank(issue: z.core.$ZodIssue): number {
  const isType = issue.code === "invalid_type" || issue.code === "invalid_union";
  return issue.path.length + (isType ? 0 : 1000);
}

/** A discriminated union without a matching branch: the discriminator is at fault. */
function atDiscriminator(issue: z.core.$ZodIssueInvalidUnion): z.core.$ZodIssue {
  const { discriminator } = issue;
  if (typeof discriminator !== "string" || issue.path.at(-1) === discriminator) return issue;
  return { ...issue, path: [...issue.path, discriminator] };
}

/** Whether a branch failed only because the value is of another type altogether. */
function isOtherType(issue: z.core.$ZodIssue): boolean {
  return issue.path.length === 0 && issue.code === "invalid_type" && issue.expected !== "int";
}

function expectedTypes(issue: z.core.$ZodIssueInvalidUnion): string {
  const names = issue.errors.flatMap((branch) =>
    branch[0]?.code === "invalid_type" ? [String(branch[0].expected)] : []
  );
  return [...new Set(names)].join(" or ") || "another value";
}

function describe(issue: z.core.$ZodIssue, value: unknown): string {
  switch (issue.code) {
    case "invalid_type":
      return `expected ${issue.expected}, got ${kind(value)}`;
    case "too_small":
      return `must ${verb(issue)} ${issue.inclusive ? "at least" : "above"} ${issue.minimum}`;
    case "too_big":
      return `must ${verb(issue)} ${issue.inclusive ? "at most" : "below"} ${issue.maximum}`;
    case "invalid_value":
      return `must be one of ${issue.values.map((v) => JSON.stringify(v)).join(", ")}`;
    case "invalid_key":
      return issue.issues[0]?.message ?? "not a valid key";
    case "invalid_union":
      return issue.errors.length === 0
        ? `${kind(value)} is not one of the known values`
        : issue.message;
    default:
      return issue.message;
  }
}

function verb({ origin }: { readonly origin: string }): string {
  if (origin === "string") return "have a length of";
  return origin === "array" ? "have a number of items of" : "be";
}

/** The type of a JSON value, and numbers that JSON cannot hold by name; never the value itself. */
function kind(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "number" && !Number.isFinite(value)) return "a number too large";
  if (typeof value === "number" && !Number.isInteger(value)) return "a fraction";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

function valueAt(body: unknown, path: readonly PropertyKey[]): unknown {
  let value = body;
  for (const key of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
    value = Reflect.get(value, key);
  }
  return value;
}
