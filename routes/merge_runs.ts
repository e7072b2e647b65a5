/** Several runs as one: events as they come, each source at most one event ahead. */
import type { RunEvent, RunResult } from "../strategies/mod.ts";

/** Events of a run, then its result. */
export type Run<R> = AsyncGenerator<RunEvent, R, void>;

/**
 * Runs side by side. Choice `i` of run `r` becomes choice `r * choices + i`. Breaking out, or a
 * failure of one run, ends all of them.
 *
 * @param choices per run
 * @param stop called when one run fails; must make the others end soon
 */
export function mergeRuns(
  runs: readonly Run<RunResult>[],
  choices: number,
  stop: (error: unknown) => void,
): Run<readonly RunResult[]> {
  return runs.length === 1 ? single(runs[0]!) : several(runs, choices, stop);
}

async function* single(run: Run<RunResult>): Run<readonly RunResult[]> {
  return [yield* run];
}

async function* several(
  runs: readonly Run<RunResult>[],
  choices: number,
  stop: (error: unknown) => void,
): Run<readonly RunResult[]> {
  const results: RunResult[] = new Array(runs.length);
  const ready: { index: number; next: Promise<IteratorResult<RunEvent, RunResult>> }[] = [];
  let wake = () => {};
  const ask = (index: number) => {
    const next = runs[index]!.next();
    const arrive = () => {
      ready.push({ index, next });
      wake();
    };
    next.then(arrive, arrive);
  };
  try {
    for (let index = 0; index < runs.length; index++) ask(index);
    for (let open = runs.length; open > 0;) {
      if (ready.length === 0) await new Promise<void>((resolve) => wake = resolve);
      const { index, next } = ready.shift()!;
      const { done, value } = await next;
      if (done) {
        results[index] = value;
        open--;
      } else {
        yield { ...value, choice: index * choices + value.choice };
        ask(index);
      }
    }
    return results;
  } catch (error) {
    stop(error);
    throw error;
  } finally {
    // A run in the middle of a step ends with it; the result of an ended run is not read.
    await Promise.allSettled(runs.map((run) => run.return(undefined as never)));
  }
}
