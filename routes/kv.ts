/** Which KV policy a request runs under. */
import type { KvChoice } from "../runtime/mod.ts";
import type { AppDeps, KvPolicyInfo } from "./deps.ts";
import { ApiError, invalidValue } from "./errors.ts";
import type { RequestState } from "./state.ts";
import { type NamedParams, parseNamedParams } from "./structured_header.ts";

/** The cache without compression, which every model has. */
export const fullPolicy: KvPolicyInfo = {
  name: "full",
  params: {
    parse(value) {
      const [key] = Object.keys(value ?? {});
      if (key !== undefined) throw new RangeError(`full takes no parameters, got ${key}`);
      return {};
    },
  },
};

/** `decoding.kv_policy`, validated in shape. */
export type KvRequest =
  | {
    readonly name: string;
    readonly params?: Readonly<Record<string, unknown>> | null | undefined;
  }
  | null
  | undefined;

/**
 * The policy of the header or the body, which must agree; the full cache if neither names one.
 *
 * @returns undefined for the full cache
 * @throws {ApiError} 400 for unknown policies, their parameters, and disagreement
 */
export function selectKv(
  deps: AppDeps,
  state: RequestState,
  headers: Headers,
  body: KvRequest,
): KvChoice | undefined {
  const policies = deps.kvPolicies ?? [fullPolicy];
  const header = parseNamedParams(headers, "X-KV-Policy", deps.limits.headerBytes);
  const inBody = body ? { name: body.name, params: body.params ?? {} } : undefined;
  const fromHeader = header && resolve(policies, header, "X-KV-Policy", "X-KV-Policy");
  const fromBody = inBody &&
    resolve(policies, inBody, "decoding.kv_policy.name", "decoding.kv_policy.params");
  if (fromHeader && fromBody && !isSame(fromHeader, fromBody)) {
    throw new ApiError(
      400,
      "strategy_conflict",
      "The header X-KV-Policy and decoding.kv_policy ask for different things",
      { param: "decoding.kv_policy" },
    );
  }
  const chosen = fromHeader ?? fromBody;
  state.kvPolicy = chosen?.name ?? fullPolicy.name;
  return chosen?.name === fullPolicy.name ? undefined : chosen;
}

function resolve(
  policies: readonly KvPolicyInfo[],
  { name, params }: NamedParams,
  nameParam: string,
  paramsParam: string,
): KvChoice {
  const policy = policies.find((known) => known.name === name);
  if (!policy) {
    const known = policies.map((one) => one.name).join(", ");
    throw invalidValue(nameParam, `Unknown KV policy ${JSON.stringify(name)}; known: ${known}`);
  }
  try {
    return { name, params: { ...Object(policy.params.parse(params)) } };
  } catch (error) {
    const detail = error instanceof Error ? error.message : "not valid";
    throw invalidValue(paramsParam, `Invalid parameters of KV policy ${name}: ${detail}`);
  }
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
