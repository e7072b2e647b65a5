/** Whether a model can run a policy: its backend's abilities and its adapters. */
import { leastKvSupport } from "../backend/backend.ts";
import type { ExecutorInfo } from "../engine/executor.ts";
import { PolicyError } from "../errors.ts";
import type { KvPolicy } from "./policy.ts";

/**
 * What a policy needs and the model does not have, in words; undefined if it can run.
 *
 * @param params validated; undefined = the policy's own needs, whatever the parameters
 */
export function missingSupport(
  policy: KvPolicy,
  params: unknown,
  info: Pick<ExecutorInfo, "backend" | "support" | "adapters" | "slotsPerPage">,
): string | undefined {
  const { support = leastKvSupport, adapters = [], backend } = info;
  if (policy.adapter !== undefined && !adapters.includes(policy.adapter)) {
    return `the model has no adapter "${policy.adapter}"`;
  }
  if (policy.adapter !== undefined && !support.adapters) {
    return `the ${backend} backend runs no adapters`;
  }
  if (!support.granularities.includes(policy.granularity)) {
    return `the ${backend} backend has no page tables per ${policy.granularity}`;
  }
  const signal = policy.signals.find((name) =>
    !name.startsWith("adapter:") && !support.signals.includes(name)
  );
  if (signal !== undefined) return `the ${backend} backend does not record ${signal}`;
  if (params === undefined) return undefined;
  const format = policy.format?.(params) ?? "f32";
  if (format !== "f32" && !support.formats.includes(format)) {
    return `the ${backend} backend has no ${format} pages`;
  }
  if (info.slotsPerPage?.[format] === 0) {
    return `a page of the model's cache is too small for a group of ${format}`;
  }
  const rule = policy.reads?.(params);
  if (rule !== undefined && !support.reads.includes(rule.score)) {
    return `the ${backend} backend cannot choose what it reads by ${rule.score}`;
  }
  if (policy.positions?.(params) === "cache" && !support.turns) {
    return `the ${backend} backend cannot turn keys`;
  }
  return undefined;
}

/** @throws {PolicyError} if the model cannot run the policy */
export function requireSupport(
  policy: KvPolicy,
  params: unknown,
  info: Pick<ExecutorInfo, "backend" | "support" | "adapters" | "slotsPerPage">,
): void {
  const missing = missingSupport(policy, params, info);
  if (missing !== undefined) throw new PolicyError(policy.name, missing);
}
