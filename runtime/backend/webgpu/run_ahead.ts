/**
 * Run-ahead: the step recorded last is run again and again, each time on the tokens it has just drawn,
 * before the host has seen any of them. A kernel moves tokens, positions and rows of the step's data
 * on; everything else of the step stays as it is.
 */
import { advance } from "../../../shaders/mod.ts";
import type { AheadStep, Drawn, DrawSpec } from "../backend.ts";
import { drawnFrom } from "./draws.ts";
import { type Dispatch, run, stepData } from "./recorder.ts";
import type { Stage } from "./stage.ts";
import type { Submissions } from "./submissions.ts";
import { type GpuTensor, gpuTensor, rangesOf } from "./tensor.ts";

/**
 * As in `Backend.runAhead`. Each step is a submission of its own, so that the first results are ready
 * first.
 *
 * @throws {RangeError} if the step is not the last one that was recorded
 */
export function runAhead(
  stage: Stage,
  submissions: Submissions,
  step: AheadStep,
  draws: readonly DrawSpec[],
  times: number,
): Promise<(Drawn | undefined)[]>[] {
  const result = gpuTensor("run_ahead", step.result, stage);
  const next = nextOf(stage, step, result);
  const range = rangesOf(result.storage)[0]!;
  return Array.from({ length: times + 1 }, (_, i) => {
    const copy = submissions.submitWith((encoder) => {
      if (i > 0) run(encoder, [next, ...submissions.lastStep]);
    }, range);
    const values = copy.read().then((data) => drawnFrom(new Float32Array(data.buffer), draws));
    values.catch(() => {}); // nobody may be waiting for it
    return values;
  });
}

/** What moves the step's data on to the next token. */
function nextOf(
  { data, tables, draws, pipelines, recorder }: Stage,
  { tokens, positions, rows }: AheadStep,
  result: GpuTensor,
): Dispatch {
  const [tokensAt, positionsAt, table] = [
    data.find(tokens),
    data.find(positions),
    tables.find(rows),
  ];
  if (tokensAt === undefined || positionsAt === undefined || table === undefined || draws === 0) {
    throw new RangeError("The step to run ahead of is not the last one that was recorded");
  }
  const count = rows.length;
  return recorder.prepare(
    pipelines.get(advance),
    [count, tokensAt, positionsAt, table.rows, draws],
    [result.target, stepData],
    [Math.ceil(count / 64), 1, 1],
  );
}
