/** Everything about a request that can be refused before any work. */
import {
  CapabilityError,
  type ConstraintSpec,
  ContextLengthError,
  encodePrompt,
  isMessages,
  type LanguageModel,
  requireCapabilities,
} from "../runtime/mod.ts";
import * as z from "zod";
import type { RunRequest } from "./_run_types.ts";
import { type Roles, type Strategy, usedRoles } from "./strategy.ts";
import { StrategyParamError } from "./_errors.ts";

/**
 * Validated parameters of a strategy.
 *
 * @throws {StrategyParamError} naming the first parameter that is unknown or out of range
 */
export function parseParams(
  strategy: Strategy,
  params: Readonly<Record<string, unknown>>,
): unknown {
  try {
    return strategy.params.parse(params);
  } catch (error) {
    if (!(error instanceof z.ZodError)) throw error;
    const issue = error.issues[0]!;
    if (issue.code !== "unrecognized_keys") {
      throw new StrategyParamError(strategy.name, issue.path.join("."), issue.message);
    }
    const known = knownParams(strategy);
    throw new StrategyParamError(
      strategy.name,
      [...issue.path, issue.keys[0]].join("."),
      known.length > 0 ? `unknown; known: ${known.join(", ")}` : "unknown; there are none",
    );
  }
}

function knownParams({ params }: Strategy): readonly string[] {
  return params instanceof z.ZodObject ? Object.keys(params.shape) : [];
}

/**
 * Whether the request's models can do what its strategy needs, and everything fits.
 *
 * @returns the roles a run fills, in order
 * @throws {CapabilityError} if a model lacks something, or the strategy cannot honour a constraint
 * @throws {ContextLengthError} if prompt and new tokens do not fit a model
 * @throws {RangeError} if the prompt is empty, or the strategy's own check says so
 */
export function checkRequest(request: RunRequest, params: unknown): readonly string[] {
  const { strategy, models, choices, sampling, constraint, format } = request;
  const roles = usedRoles(strategy, params);
  for (const [role, needs] of Object.entries(roles)) {
    const model = models[role];
    if (!model) throw new RangeError(`Strategy ${strategy.name} needs a model as role "${role}"`);
    requireCapabilities(model, needs, { strategy: strategy.name, role });
  }
  checkConstraint(request, roles);
  checkDemand(request, Object.keys(roles));
  checkLengths(request);
  const { stopTokens, calibrations = new Map() } = request;
  const demand = { params, choices, sampling, constraint, format, stopTokens, calibrations };
  strategy.check?.(models, demand);
  return Object.keys(roles);
}

/** Whether a model sees to a constraint by itself. */
export function isHonoured(
  { honours }: Pick<LanguageModel, "honours">,
  format: ConstraintSpec | undefined,
): boolean {
  return format !== undefined && (honours?.(format) ?? false);
}

function checkConstraint(
  { strategy, models, constraint, format, logprobs }: RunRequest,
  roles: Roles,
): void {
  const [first] = Object.keys(strategy.needs);
  const model = models[first!]!;
  const use = { strategy: strategy.name, role: first! };
  if (logprobs !== undefined && !tellsLogprobs(model)) {
    throw new CapabilityError(model.id, ["log-probabilities"], use);
  }
  if (!constraint && !format) return;
  if (!strategy.constrained) throw new CapabilityError(model.id, ["constrained decoding"], use);
  for (const role of Object.keys(roles)) {
    const model = models[role]!;
    if (strategy.delegates && isHonoured(model, format)) continue;
    const use = { strategy: strategy.name, role };
    if (!constraint || !model.vocab) throw new CapabilityError(model.id, ["vocabulary"], use);
    requireCapabilities(model, strategy.constrainedNeeds?.[role] ?? [], use);
  }
}

/** Whether a model tells how likely what it drew was. */
export function tellsLogprobs({ vocab, topLogprobs }: LanguageModel): boolean {
  return vocab !== undefined || topLogprobs !== undefined;
}

/** What models could only ignore is refused. */
function checkDemand(request: RunRequest, roles: readonly string[]): void {
  const { strategy, models, prompt, sampling, logprobs, chat, stopTokens, ignoreStop, kv } =
    request;
  const isChat = isMessages(prompt);
  const demand = { sampling, logprobs, chat, isChat, stopTokens, ignoreStop, kv };
  for (const role of roles) {
    const model = models[role]!;
    const lacking = model.lacks?.(demand) ?? [];
    if (lacking.length > 0) {
      throw new CapabilityError(model.id, lacking, { strategy: strategy.name, role });
    }
  }
}

function checkLengths({ prompt, models, chat, maxTokens, choices, kv }: RunRequest): void {
  if (!Number.isInteger(choices) || choices < 1) {
    throw new RangeError(`The number of choices must be at least 1, got ${choices}`);
  }
  if (!Number.isInteger(maxTokens) || maxTokens < 1) {
    throw new RangeError(`The number of new tokens must be at least 1, got ${maxTokens}`);
  }
  if (prompt.length === 0) throw new RangeError("The prompt is empty");
  for (const model of Object.values(models)) {
    if (!model.vocab) continue;
    const { length } = encodePrompt(prompt, model.vocab, { model: model.id, chat });
    if (length === 0) throw new RangeError("The prompt is empty");
    const limit = kv && model.contextUnder ? model.contextUnder(kv) : model.contextLength;
    if (length + maxTokens > limit) throw new ContextLengthError(length, maxTokens, limit);
  }
}
