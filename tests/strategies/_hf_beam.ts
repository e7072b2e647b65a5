/**
 * Beam search written after the vectorised `_beam_search` of Hugging Face transformers 4.57: fixed
 * arrays, copies at -1e9, flags. Only for comparison; slow.
 */

/** Natural-log probabilities of all tokens after a sequence. */
export type LogprobsAfter = (tokens: readonly number[]) => readonly number[];

export interface HfBeamOptions {
  readonly logprobsAfter: LogprobsAfter;
  readonly prompt: readonly number[];
  readonly eos: ReadonlySet<number>;
  readonly numBeams: number;
  readonly lengthPenalty: number;
  readonly earlyStopping: boolean | "never";
  readonly maxNewTokens: number;
}

export interface HfHypothesis {
  readonly tokens: readonly number[];
  readonly score: number;
}

const never = -1e9;

export function hfBeamSearch(options: HfBeamOptions): HfHypothesis[] {
  const { logprobsAfter, prompt, eos, numBeams, lengthPenalty, earlyStopping } = options;
  const maxLength = prompt.length + options.maxNewTokens;
  let running = Array.from({ length: numBeams }, (): number[] => []);
  let runningScores: number[] = running.map((_, i) => i === 0 ? 0 : never);
  let finished = Array.from({ length: numBeams }, (): number[] => []);
  let finishedScores: number[] = finished.map(() => never);
  let isFinished: boolean[] = finished.map(() => false);
  let length = prompt.length;
  for (;;) {
    const candidates = running.flatMap((tokens, beam) =>
      logprobsAfter([...prompt, ...tokens]).map((logprob, token) => ({
        tokens: [...tokens, token],
        sum: runningScores[beam]! + logprob,
        hits: eos.has(token) || length + 1 >= maxLength,
      }))
    );
    candidates.sort((a, b) => b.sum - a.sum); // stable: better beam, then lower token
    const top = candidates.slice(0, Math.max(2, 1 + eos.size) * numBeams);

    const runnable = top.map((c) => ({ ...c, sum: c.hits ? c.sum + never : c.sum }))
      .sort((a, b) => b.sum - a.sum)
      .slice(0, numBeams);
    running = runnable.map(({ tokens }) => tokens);
    runningScores = runnable.map(({ sum }) => sum);

    const full = isFinished.every((flag) => flag) && earlyStopping === true;
    const pool = [
      ...finished.map((tokens, i) => ({
        tokens,
        score: finishedScores[i]!,
        done: isFinished[i]!,
      })),
      ...top.map(({ tokens, sum, hits }, rank) => {
        const just = hits && rank < numBeams;
        const score = sum / (length + 1 - prompt.length) ** lengthPenalty;
        return { tokens, score: score + (just && !full ? 0 : never), done: just };
      }),
    ].sort((a, b) => b.score - a.score).slice(0, numBeams);
    finished = pool.map(({ tokens }) => tokens);
    finishedScores = pool.map(({ score }) => score);
    isFinished = pool.map(({ done }) => done);

    length++;
    const hypothetical = earlyStopping === "never" && lengthPenalty > 0
      ? maxLength - prompt.length
      : length - prompt.length;
    const best = runningScores[0]! / hypothetical ** lengthPenalty;
    const worst = Math.min(...finishedScores);
    const improvable = isFinished.some((flag) => best > (flag ? worst : never));
    const open = !(isFinished.every((flag) => flag) && earlyStopping === true);
    const going = !top.every(({ hits }) => hits);
    if (!(improvable && open && going)) break;
  }
  return finished.map((tokens, i) => ({ tokens, score: finishedScores[i]! }))
    .filter((_, i) => isFinished[i]);
}
