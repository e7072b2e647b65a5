/** From a row's logits and hidden states to the answers of its asks. */
import type { Drawn, LogitsSummary } from "../backend/backend.ts";
import { EngineError } from "../errors.ts";
import { allowedMass, entropy, logNormalizer, sampleRow, topK, withRest } from "../sampling.ts";
import { positionOf } from "./device_draws.ts";
import type { Answer, Row, Want } from "./executor.ts";

/** What a step computed for one row. */
export interface RowOutput {
  /** Logits of the row's last {@link logitsNeeded} tokens, oldest first; empty where none are needed. */
  readonly logits: readonly Float32Array[];
  /** Hidden states after `layer` of the row's last `last` tokens, oldest first. */
  hidden(layer: number, last: number): readonly Float32Array[];
  /** Tokens of a row of logits. */
  readonly vocab: number;
  /** What the device drew; rows whose samples are all there need no logits. */
  drawn(want: Want): Drawn | undefined;
  /** What the device read off the logits of the tokens asked about, oldest first. */
  summaries(want: Want): readonly LogitsSummary[] | undefined;
  /** What attention recorded about slots. */
  signal(want: Extract<Want, { kind: "signal" }>): Float32Array;
}

/** How many of a row's last tokens have to give logits. */
export function logitsNeeded(row: Row): number {
  return row.wants.reduce((most, want) => Math.max(most, logitsFor(want)), 0);
}

function logitsFor(want: Want): number {
  switch (want.kind) {
    case "sample":
      return 1;
    case "score":
      return want.targets.length;
    case "hidden":
    case "signal":
      return 0;
    default:
      return want.last;
  }
}

/**
 * Answers in the order of the wants. Rows in answers are copies. An ask that cannot be answered
 * fails alone: its neighbours in the batch are other people's.
 */
export function answerRow(row: Row, output: RowOutput): Answer[] {
  return row.wants.map((want) => {
    try {
      return answer(want, row, output);
    } catch (error) {
      if (error instanceof RangeError || error instanceof EngineError) {
        return { kind: "failed", name: error.name, message: error.message };
      }
      throw error;
    }
  });
}

function answer(want: Want, row: Row, output: RowOutput): Answer {
  const rows = output.logits.slice(output.logits.length - logitsFor(want));
  const told = output.summaries(want);
  switch (want.kind) {
    case "sample": {
      const drawn = output.drawn(want);
      const sampled = drawn !== undefined
        ? { ...drawn, top: drawn.top ?? told?.[0]?.top ?? [] }
        : sampleRow(rows[0]!, { ...want, position: positionOf(row) });
      return { kind: "sample", ...sampled, ...massOf(want, rows[0]!, sampled) };
    }
    case "topk":
      return {
        kind: "topk",
        rows: told?.map(({ top }) => withRest(top, output.vocab)) ??
          rows.map((logits) => topK(logits, want.k)),
      };
    case "logits":
      return { kind: "logits", rows: rows.map((logits) => logits.slice()) };
    case "entropy":
      return {
        kind: "entropy",
        values: Float32Array.from(told?.map(({ entropy }) => entropy) ?? rows.map(entropy)),
      };
    case "score":
      return { kind: "score", values: scores(rows, want.targets, told) };
    case "hidden":
      return { kind: "hidden", rows: output.hidden(want.layer, want.last) };
    case "signal":
      return { kind: "signal", values: output.signal(want) };
  }
}

function massOf(
  want: Extract<Want, { kind: "sample" }>,
  logits: Float32Array,
  { token, logprob, mass: told }: Drawn,
): { readonly mass?: number } {
  const { mask, mass } = want;
  if (!mass || mask === undefined || told !== undefined) return {};
  return { mass: allowedMass(logits, mask, want, logits[token]! - logprob) };
}

/** Log-probability of each target. @throws {RangeError} if one is not in the vocabulary */
function scores(
  rows: readonly Float32Array[],
  targets: Uint32Array,
  summaries: readonly LogitsSummary[] | undefined,
): Float32Array {
  return Float32Array.from(targets, (target, i) => {
    const logits = rows[i]!;
    const logit = summaries?.[i]?.target ?? logits[target];
    if (logit === undefined) throw new RangeError(`Token ${target} is not in the vocabulary`);
    return logit - (summaries?.[i]?.logNormalizer ?? logNormalizer(logits));
  });
}
