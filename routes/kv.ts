/** Which KV policy a request runs under. */
import {
  type KvChoice,
  type LanguageModel,
  listPolicies,
  NotFoundError,
  PolicyError,
} from "../runtime/mod.ts";
import type { AppDeps, KvPolicyInfo } from "./deps.ts";
import { ApiError, invalidValue } from "./errors.ts";
import type { RequestState } from "./state.ts";
import { type NamedParams, parseNamedParams } from "./structured_header.ts";

/** Name of the cache without compression, which every model has. */
const FULL = "full";

/** `decoding.kv_policy`, validated in shape. */
export type KvRequest =
  | {
    readonly name: string;
    readonly params?: Readonly<Record<string, unknown>> | null | undefined;
  }
  | null
  | undefined;

/** A policy that was named, and where. */
export interface NamedKv {
  /** Parameters are validated and complete. */
  readonly choice: KvChoice;
  /** The field to blame, for the policy or one of its parameters. */
  fieldOf(param?: string): string;
}

/**
 * The policy of the header or the body, which must agree.
 *
 * @returns undefined if neither names one
 * @throws {ApiError} 400 for unknown policies, their parameters, and disagreement
 */
export function selectKv(
  deps: AppDeps,
  state: RequestState,
  headers: Headers,
  body: KvRequest,
): NamedKv | undefined {
  const policies = deps.kvPolicies ?? listPolicies();
  const header = parseNamedParams(headers, "X-KV-Policy", deps.limits.headerBytes);
  const inBody = body ? { name: body.name, params: body.params ?? {} } : undefined;
  const fromHeader = header && resolve(policies, header, () => "X-KV-Policy");
  const fromBody = inBody && resolve(policies, inBody, bodyField);
  if (fromHeader && fromBody && !isSame(fromHeader.choice, fromBody.choice)) {
    throw new ApiError(
      400,
      "strategy_conflict",
      "The header X-KV-Policy and decoding.kv_policy ask for different things",
      { param: "decoding.kv_policy" },
    );
  }
  const chosen = fromHeader ?? fromBody;
  state.kvPolicy = chosen === undefined ? FULL : headerOf(chosen.choice);
  return chosen;
}

function bodyField(param?: string): string {
  if (param === undefined) return "decoding.kv_policy.name";
  return ["decoding.kv_policy.params", param].filter(Boolean).join(".");
}

/** What a request runs under; undefined for the full cache. */
export function choiceOf(named: NamedKv | undefined): KvChoice | undefined {
  return named === undefined || named.choice.name === FULL ? undefined : named.choice;
}

/**
 * A policy applies to every model of a request. The answer's header tells what they settle alike.
 *
 * @throws {ApiError} 400 if one of them cannot run it; nothing is replaced by the full cache
 */
export function requireKv(
  state: RequestState,
  named: NamedKv | undefined,
  models: Iterable<LanguageModel>,
): void {
  const choice = choiceOf(named);
  if (named === undefined || choice === undefined) return;
  let told: KvChoice | undefined;
  for (const model of new Set(models)) {
    if (model.checkKv === undefined) {
      const message = `Model ${JSON.stringify(model.id)} has no KV policy but "full"`;
      throw new ApiError(400, "strategy_unsupported", message, { param: named.fieldOf() });
    }
    try {
      told = alike(told, model.checkKv(choice));
    } catch (error) {
      if (error instanceof NotFoundError) throw invalidValue(named.fieldOf(), error.message);
      if (error instanceof RangeError) throw invalidValue(named.fieldOf(""), error.message);
      if (!(error instanceof PolicyError)) throw error;
      if (error.param !== undefined) throw invalidValue(named.fieldOf(error.param), error.message);
      const message = `${error.message} (model ${JSON.stringify(model.id)})`;
      throw new ApiError(400, "strategy_unsupported", message, { param: named.fieldOf() });
    }
  }
  state.kvPolicy = headerOf(told ?? choice);
}

/** The parameters that two models run with, without those that each settles for itself. */
function alike(told: KvChoice | undefined, { name, params }: KvChoice): KvChoice {
  if (told === undefined) return { name, params };
  const same = Object.entries(params).filter(([key, value]) => told.params[key] === value);
  return { name, params: Object.fromEntries(same) };
}

function resolve(
  policies: readonly KvPolicyInfo[],
  { name, params }: NamedParams,
  fieldOf: (param?: string) => string,
): NamedKv {
  const policy = policies.find((known) => known.name === name);
  if (!policy) {
    const known = policies.map((one) => one.name).join(", ");
    throw invalidValue(fieldOf(), `Unknown KV policy ${JSON.stringify(name)}; known: ${known}`);
  }
  try {
    return { choice: { name, params: { ...Object(policy.params.parse(params)) } }, fieldOf };
  } catch (error) {
    const { param, detail } = issueOf(error);
    throw invalidValue(fieldOf(param), `Invalid parameters of KV policy ${name}: ${detail}`);
  }
}

/** The first thing wrong with parameters. zod's errors have issues; others a message. */
function issueOf(error: unknown): { param: string; detail: string } {
  const issues: unknown = Object(error).issues;
  const issue: unknown = Array.isArray(issues) ? issues[0] : undefined;
  if (typeof issue !== "object" || issue === null) {
    return { param: "", detail: error instanceof Error ? error.message : "not valid" };
  }
  const { path, keys, message } = issue as {
    readonly path?: readonly PropertyKey[];
    readonly keys?: readonly string[];
    readonly message?: string;
  };
  const param = [...path ?? [], ...keys?.slice(0, 1) ?? []].join(".");
  return { param, detail: param === "" ? `${message}` : `${param}: ${message}` };
}

/** As `X-KV-Policy` says it: a token with parameters (RFC 9651). */
function headerOf({ name, params }: KvChoice): string {
  const parts = Object.entries(params).flatMap(([key, value]) => {
    if (typeof value === "number") return [`${key}=${value}`];
    if (typeof value === "boolean") return [value ? key : `${key}=?0`];
    return typeof value === "string" && /^[A-Za-z][\w.-]*$/.test(value) ? [`${key}=${value}`] : [];
  });
  return [name, ...parts].join(";");
}

function isSame(a: KvChoice, b: KvChoice): boolean {
  return canonical(a) === canonical(b);
}

/** JSON with sorted keys, so that equal values are equal texts. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (typeof inner !== "object" || inner === null || Array.isArray(inner)) return inner;
    return Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}
