/** `GET /v1/kv-policies`: what can be chosen for the KV cache, and which models can run it. */
import * as z from "zod";
import { type KvPolicy, type LanguageModel, listPolicies } from "../runtime/mod.ts";
import { visibleModels } from "./auth.ts";
import type { AppDeps } from "./deps.ts";
import type { AppContext, Services } from "./services.ts";

function describe(policy: KvPolicy, { catalog }: AppDeps) {
  const models: string[] = [], unavailable: Record<string, string> = {};
  for (const { id } of catalog.list()) {
    const reason = whyNot(policy, catalog.get(id).model.checkKv);
    if (reason === undefined) models.push(id);
    else unavailable[id] = reason;
  }
  return {
    object: "kv_policy",
    name: policy.name,
    summary: policy.summary ?? "",
    source: policy.source,
    family: policy.family ?? "eviction",
    /** Read sparsity saves reads, not bytes. */
    frees_memory: policy.family !== "read-sparsity" && policy.family !== "full",
    lossless: policy.lossless,
    granularity: policy.granularity,
    adapter: policy.adapter ?? null,
    default: policy.name === "full",
    params: policy.params instanceof z.ZodType
      ? z.toJSONSchema(policy.params, { io: "input", unrepresentable: "any" })
      : { type: "object", additionalProperties: false },
    models,
    unavailable,
  };
}

/** Why a model cannot run a policy with its defaults. */
function whyNot(policy: KvPolicy, check: LanguageModel["checkKv"]) {
  if (policy.name === "full") return undefined;
  if (check === undefined) return "the model has the full cache alone";
  try {
    const params = Object(policy.params.parse({}));
    check({ name: policy.name, params });
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : "not available";
  }
}

/** All policies. */
export function listKvPolicies(c: AppContext, { deps }: Services): Response {
  const visible = { ...deps, catalog: visibleModels(c.get("state").caller, deps.catalog) };
  return Response.json({
    object: "list",
    data: listPolicies().map((policy) => describe(policy, visible)),
  });
}
