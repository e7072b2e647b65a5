/** How a constraint fares on schemas with instances, counted and timed. */
import type { Vocab } from "../../runtime/mod.ts";
import { FormatError } from "../../runtime/errors.ts";
import {
  compileSchema,
  jsonProgramConstraint,
  schemaLimits,
} from "../../runtime/constraints/json/mod.ts";
import { ConstraintTooComplexError } from "../../runtime/constraints/regex/mod.ts";
import type { Instance, SchemaCase } from "./_cases.ts";

type JsonConstraint = ReturnType<typeof jsonProgramConstraint>;

/** What happened to the schemas of one suite. */
export interface Verdicts {
  schemas: number;
  compiled: number;
  /** Schemas whose every instance was judged rightly. */
  passing: number;
  valid: number;
  validAccepted: number;
  invalid: number;
  invalidAccepted: number;
  /** Refused with a reason, by reason. */
  readonly refused: Record<string, number>;
  /** Names of what went wrong. */
  readonly wrong: string[];
  readonly compileUs: number[];
  /** Compiling and the first mask together. */
  readonly firstMaskUs: number[];
  /** Every mask along the valid instances but the first. */
  readonly maskUs: number[];
  readonly advanceUs: number[];
}

/** Nothing yet. */
export function noVerdicts(): Verdicts {
  return {
    schemas: 0,
    compiled: 0,
    passing: 0,
    valid: 0,
    validAccepted: 0,
    invalid: 0,
    invalidAccepted: 0,
    refused: {},
    wrong: [],
    compileUs: [],
    firstMaskUs: [],
    maskUs: [],
    advanceUs: [],
  };
}

/** What the host measures with. */
export interface Judging {
  readonly vocab: Vocab;
  /** Milliseconds. */
  readonly clock: () => number;
  /** Ask for every mask on the way and check that it allows what is accepted. */
  readonly withMasks: boolean;
}

/** Compiles one schema and reads its instances, token by token. */
export function judge(suite: SchemaCase, verdicts: Verdicts, judging: Judging): void {
  verdicts.schemas++;
  const begun = judging.clock();
  let constraint: JsonConstraint;
  try {
    const program = compileSchema(suite.schema, schemaLimits);
    verdicts.compileUs.push((judging.clock() - begun) * 1000);
    constraint = jsonProgramConstraint(program, judging.vocab);
  } catch (error) {
    const reason = reasonOf(error);
    verdicts.refused[reason] = (verdicts.refused[reason] ?? 0) + 1;
    return;
  }
  verdicts.firstMaskUs.push((judging.clock() - begun) * 1000);
  verdicts.compiled++;
  const wrong = suite.instances.filter((instance) =>
    !isRight(constraint, instance, verdicts, judging)
  );
  if (wrong.length === 0) verdicts.passing++;
  verdicts.wrong.push(...wrong.map(({ description }) => `${suite.name}: ${description}`));
}

function isRight(
  constraint: JsonConstraint,
  { text, isValid }: Instance,
  verdicts: Verdicts,
  judging: Judging,
): boolean {
  const isAccepted = accepts(constraint, text, verdicts, judging);
  if (isValid) verdicts.valid++;
  else verdicts.invalid++;
  if (isAccepted) verdicts[isValid ? "validAccepted" : "invalidAccepted"]++;
  return isAccepted === isValid;
}

function accepts(
  constraint: JsonConstraint,
  text: string,
  verdicts: Verdicts,
  { vocab, clock, withMasks }: Judging,
): boolean {
  let state = constraint.start();
  const bits = new Uint32Array(Math.ceil(vocab.size / 32));
  for (const token of vocab.encode(text)) {
    let isAllowed: boolean | undefined;
    if (withMasks) {
      bits.fill(0);
      const begun = clock();
      constraint.mask(state, bits);
      verdicts.maskUs.push((clock() - begun) * 1000);
      isAllowed = (bits[token >> 5]! >>> (token & 31) & 1) === 1;
    }
    const begun = clock();
    const next = constraint.advance(state, token);
    verdicts.advanceUs.push((clock() - begun) * 1000);
    if (isAllowed !== undefined && isAllowed !== (next !== undefined)) {
      throw new Error("mask and advance disagree");
    }
    if (next === undefined) return false;
    state = next;
  }
  return constraint.accepting(state);
}

function reasonOf(error: unknown): string {
  if (error instanceof ConstraintTooComplexError) return `too complex: ${error.what}`;
  if (!(error instanceof FormatError)) throw error;
  return error.message.replace(/^Cannot read JSON schema: /, "").replace(/ \(at .*\)$/, "")
    .replace(/^pattern .*: /, "pattern: ");
}
