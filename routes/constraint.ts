/** A request's constraint: compiled before anything runs, checked again when its text is finished. */
import {
  askPredicate,
  CapabilityError,
  ClosedError,
  type Constraint,
  ConstraintError,
  type ConstraintSpec,
  ConstraintTooComplexError,
  FormatError,
  type Predicate,
  predicateConstraint,
  type PredicateOptions,
  type TokenId,
  type Vocab,
} from "../runtime/mod.ts";
import { isHonoured, type RunEvent, type RunResult, type Strategy } from "../strategies/mod.ts";
import type { AppDeps } from "./deps.ts";
import { ApiError, invalidValue, unsupported } from "./errors.ts";
import type { Run } from "./merge_runs.ts";
import { type ConstraintBody, type NamedConstraint, readConstraint } from "./schema/constraints.ts";
import type { Selection } from "./select.ts";
import type { Services } from "./services.ts";
import type { RequestState } from "./state.ts";

/** Predicates that requests may name, and how they are run. */
export interface Predicates extends PredicateOptions {
  readonly byName: ReadonlyMap<string, Predicate>;
}

/** A constraint of one request. */
export interface RequestConstraint {
  readonly name: string;
  /** For models that are given masks; undefined where every model honours {@link format} itself. */
  readonly constraint: Constraint | undefined;
  /** What it says, for models that honour it; undefined for functions. */
  readonly format: ConstraintSpec | undefined;
  /** Whether a finished text satisfies it, by other means than the ones that wrote it. */
  accepts(text: string): Promise<boolean>;
}

/**
 * The constraint a request asks for, if any. Formats that are not checked are listed in
 * `state.ignored`, or refused where unknown fields are.
 *
 * @throws {ApiError} 400 naming the field: `invalid_schema`, `schema_too_complex`, `invalid_value`
 * @throws {CapabilityError} if the strategy takes no constraint, or the model's tokens are unknown
 */
export async function resolveConstraint(
  { deps, constraints, metrics }: Services,
  state: RequestState,
  { strategy, models }: Selection,
  body: ConstraintBody,
): Promise<RequestConstraint | undefined> {
  const named = readConstraint(body);
  if (!named) return undefined;
  const { spec, field } = named;
  const vocab = maskedVocab(strategy, models, spec);
  if (spec.kind === "predicate") return fromPredicate(deps, spec.name, vocab!, field);
  const startedMs = deps.clock.monotonicMs();
  try {
    const tenant = state.caller.keyDigest;
    const { constraint, notes } = vocab
      ? await constraints.constraint(spec, vocab, tenant)
      : { constraint: undefined, notes: await constraints.check(spec, tenant) };
    const seconds = (deps.clock.monotonicMs() - startedMs) / 1000;
    metrics.constraintCompile.observe({ kind: spec.kind }, seconds);
    report(deps, state, field, notes);
    const accepts = (text: string) => constraints.accepts(spec, text);
    return { name: constraint?.name ?? spec.kind, constraint, format: spec, accepts };
  } catch (error) {
    throw constraintRefusal(error, named);
  }
}

/**
 * The vocabulary that masks are made for; none where all models honour the constraint by themselves.
 *
 * @throws {CapabilityError} if the strategy takes no constraint, or a model's tokens are unknown
 */
function maskedVocab(
  strategy: Strategy,
  models: Selection["models"],
  spec: NamedConstraint["spec"],
): Vocab | undefined {
  const format = spec.kind === "predicate" ? undefined : spec;
  for (const role of Object.keys({ ...strategy.needs, ...strategy.optionalNeeds })) {
    const model = models[role];
    if (!model) continue;
    const use = { strategy: strategy.name, role };
    if (!strategy.constrained) throw new CapabilityError(model.id, ["constrained decoding"], use);
    if (strategy.delegates && isHonoured(model, format)) continue;
    if (model.vocab) return model.vocab;
    throw new CapabilityError(model.id, [`constraints of kind ${spec.kind}`], use);
  }
  return undefined;
}

function report(deps: AppDeps, state: RequestState, field: string, notes: readonly string[]): void {
  if (notes.length === 0) return;
  if (deps.strictFields) throw unsupported(field, `The schema's ${notes[0]} is not checked`);
  state.ignored = [...state.ignored, ...notes.map((note) => `${field}: ${note}`)];
}

function fromPredicate(
  { predicates }: AppDeps,
  name: string,
  vocab: Vocab,
  field: string,
): RequestConstraint {
  const predicate = predicates?.byName.get(name);
  if (!predicates || !predicate) {
    const known = [...predicates?.byName.keys() ?? []];
    throw invalidValue(
      field,
      `Unknown predicate ${JSON.stringify(name)}; ${
        known.length === 0 ? "none is configured" : `known: ${known.join(", ")}`
      }`,
    );
  }
  const constraint = predicateConstraint(name, predicate, vocab, predicates);
  return {
    name,
    format: undefined,
    constraint: {
      name,
      start: () => constraint.start(),
      advance: (at, token) => constraint.advance(at as ReturnType<typeof constraint.start>, token),
      accepting: (at) => constraint.accepting(at as ReturnType<typeof constraint.start>),
    },
    // deno-lint-ignore require-await -- throws arrive as rejections
    accepts: async (text) => askPredicate(name, predicate, "complete", text, predicates),
  };
}

/** The answer to a constraint that cannot be used. */
function constraintRefusal(error: unknown, { field }: NamedConstraint): unknown {
  if (error instanceof ConstraintTooComplexError) {
    return new ApiError(400, "schema_too_complex", error.message, { param: field });
  }
  if (error instanceof FormatError) {
    return new ApiError(400, "invalid_schema", error.message, { param: field });
  }
  if (error instanceof RangeError) return invalidValue(field, error.message);
  return error;
}

/**
 * A run whose choices only finish with "stop" if their text satisfies the constraint. A text cut at
 * the token limit is not judged: its reason says that it is not whole.
 *
 * @throws {ApiError} 400 from the run, where a stop string or token of the request cut the text short
 * @throws {ConstraintError} from the run, where the text is wrong although the strategy ended it
 */
export async function* verified(
  run: Run<RunResult>,
  { name, accepts }: RequestConstraint,
  stopTokens: readonly TokenId[],
): Run<RunResult> {
  const texts = new Map<number, string>();
  try {
    for (;;) {
      const next = await run.next();
      if (next.done) return next.value;
      const event = next.value;
      if (event.type === "text") {
        texts.set(event.choice, (texts.get(event.choice) ?? "") + event.text);
      } else if (event.reason === "stop") {
        const text = texts.get(event.choice) ?? "";
        if (!await judged(accepts, text, name)) {
          throw unsatisfied(name, event, stopTokens);
        }
      }
      yield event;
    }
  } finally {
    await run.return(undefined as never); // the result of an ended run is not read
  }
}

/** A check that fails itself lets nothing pass. @throws {ConstraintError} */
async function judged(
  accepts: RequestConstraint["accepts"],
  text: string,
  name: string,
): Promise<boolean> {
  try {
    return await accepts(text);
  } catch (cause) {
    if (cause instanceof ConstraintError || cause instanceof ClosedError) throw cause;
    throw new ConstraintError(name, "could not be checked on the finished text", { cause });
  }
}

function unsatisfied(
  name: string,
  { stoppedBy }: Extract<RunEvent, { type: "finish" }>,
  stopTokens: readonly TokenId[],
): Error {
  if (typeof stoppedBy === "string") {
    return invalidValue("stop", "A stop string ended the text before it satisfied its constraint");
  }
  if (stoppedBy !== undefined && stopTokens.includes(stoppedBy)) {
    const message = "A stop token ended the text before it satisfied its constraint";
    return invalidValue("stop_token_ids", message);
  }
  return new ConstraintError(name, "is not satisfied by the finished text");
}
