/**
 * Tokens that the model draws by itself and a constraint judges. What it draws is the first token the
 * estimators would; mostly it is allowed, and then rows are read for weights alone.
 */
import { asked, type DrawingSession, ended, told, unlessImpossible } from "./_awrs_drawn.ts";
import { judgedRows } from "./_awrs_judged.ts";
import { dead, rawLogprob, type SourceOptions, type TokenSource } from "./_awrs_source.ts";

/** From this share of refused tokens on, rows are asked for with the draws. */
const often = 1 / 8;

/** The same tokens and weights as from rows. */
export function drawnAndJudged(options: SourceOptions): TokenSource<DrawingSession> {
  const { vocab, isProper } = options;
  const { judges, pruned, isEnd, draw } = judgedRows(options);
  // A refused token costs a second step where no row is at hand; one is expected at first.
  let drawn = 2, refused = 0;
  return {
    start: () => judges.start(),
    async draw(session, state, place) {
      const judge = judges.at(state);
      const fromRow = async (row: Float32Array, first?: number) => {
        const step = await draw(row, place, state, judge, first);
        return { step, logprob: (token: number, top: number) => rawLogprob(row, token, top) };
      };
      if (isEnd(judge, place)) return await fromRow((await session.logits())[0]!);
      const isWeighed = isProper && place.sampling.temperature > 0;
      const wantsRow = isWeighed || refused > often * drawn;
      const [found, rows] = await Promise.all([
        session.sample({ ...asked(place), ...pruned && { mask: pruned } }).catch(unlessImpossible),
        wantsRow ? session.logits() : undefined,
      ]);
      if (!found) return ended(dead);
      drawn++;
      if (isWeighed) return await fromRow(rows![0]!, found.token);
      if (judge.allows(found.token)) {
        return told(found, 0, vocab.stopTokens.has(found.token) ? state : judge.after(found.token));
      }
      refused++;
      return await fromRow((rows ?? await session.logits())[0]!, found.token);
    },
    get checks() {
      return judges.checks;
    },
  };
}
