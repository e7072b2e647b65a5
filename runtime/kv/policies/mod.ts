/** KV policies by name. A new one is a file, and a line in registry.ts. */
import { NotFoundError } from "../../errors.ts";
import type { KvPolicy } from "../policy.ts";
import * as all from "./registry.ts";

const policies: ReadonlyMap<string, KvPolicy> = new Map(
  Object.values(all).map((policy: KvPolicy) => [policy.name, policy]),
);

/** The policy of this name. @throws {NotFoundError} */
export function getPolicy(name: string): KvPolicy {
  const policy = policies.get(name);
  if (policy === undefined) throw new NotFoundError("policy", name, [...policies.keys()]);
  return policy;
}

/** All policies. */
export function listPolicies(): readonly KvPolicy[] {
  return [...policies.values()];
}
