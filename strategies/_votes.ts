/** Answers in completions, and which of them wins. */

/** How the answer is found in a text. */
export type AnswerRule = "last-number" | "last-line" | "text";

/** The answer in a text, in a form in which equal answers are equal; undefined if there is none. */
export function extractAnswer(text: string, rule: AnswerRule): string | undefined {
  if (rule === "last-number") return lastNumber(text);
  const scope = rule === "last-line" ? text.trimEnd().split("\n").at(-1)! : text;
  const answer = scope.trim().replaceAll(/\s+/g, " ");
  return answer === "" ? undefined : answer;
}

/** "1,200.50" becomes "1200.5"; a full stop or comma after the number is not part of it. */
function lastNumber(text: string): string | undefined {
  const numbers = text.match(/-?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?/g);
  const last = numbers?.at(-1);
  if (last === undefined) return undefined;
  const [, sign, whole, fraction = ""] = last.replaceAll(",", "").match(/^(-?)0*(\d+)(\.\d+)?$/)!;
  const trimmed = fraction.replace(/\.?0+$/, "");
  const digits = whole + trimmed;
  return digits === "0" ? "0" : sign + digits;
}

/** Outcome of a vote. */
export interface Vote {
  /** Index of the first sample with the winning answer; 0 if no sample has one. */
  readonly winner: number;
  readonly votes: number;
  /** How many samples had an answer. */
  readonly answered: number;
  readonly distinct: number;
}

/** Majority of the answers; between equals the one that came first. */
export function majority(answers: readonly (string | undefined)[]): Vote {
  const votes = new Map<string, { first: number; count: number }>();
  answers.forEach((answer, i) => {
    if (answer === undefined) return;
    const known = votes.get(answer);
    if (known) known.count++;
    else votes.set(answer, { first: i, count: 1 });
  });
  let best = { first: 0, count: 0 };
  for (const vote of votes.values()) if (vote.count > best.count) best = vote;
  const answered = answers.filter((answer) => answer !== undefined).length;
  return { winner: best.first, votes: best.count, answered, distinct: votes.size };
}
