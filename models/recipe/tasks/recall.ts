import { drawIn, sample, type Split, splitOf, type Task } from "../task.ts";
import { NOUNS, storySentence, VALUES } from "../words.ts";

/** Difficulty of a recall generator: number of pairs and filler sentences, both drawn uniformly. */
export interface RecallRange {
  readonly name: string;
  readonly pairs: readonly [low: number, high: number];
  readonly filler: readonly [low: number, high: number];
  /** Longest text in characters; drawing is repeated with less filler until it fits. */
  readonly maxChars: number;
}

const HEAD = "Facts:";

/** One key in two wordings; "code" facts are answered by a sentence, "=" facts by the bare value. */
const STYLES = [
  {
    fact: (k: string, v: string) => `${k} = ${v}`,
    ask: (k: string) => `What is ${k}?`,
    answer: (_: string, v: string) => v,
    asked: /What is (\w+)\?$/,
    facts: / (\w+) = (\w+)/g,
  },
  {
    fact: (k: string, v: string) => `the code for ${k} is ${v}`,
    ask: (k: string) => `What is the code for ${k}?`,
    answer: (k: string, v: string) => `The code for ${k} is ${v}`,
    asked: /What is the code for (\w+)\?$/,
    facts: / the code for (\w+) is (\w+)/g,
  },
] as const;

const pairKey = (k: string, v: string) => `${k}=${v}`;

const keysOf = (split: Split) =>
  NOUNS.filter((k) => VALUES.some((v) => splitOf(pairKey(k, v)) === split));
/** Keys that have a value in the split at all. */
const KEYS: Readonly<Record<Split, readonly string[]>> = {
  train: keysOf("train"),
  test: keysOf("test"),
};

function facts(question: string): { pairs: Map<string, string>; asked: string; style: number } {
  for (const [style, { asked, facts }] of STYLES.entries()) {
    const key = question.match(asked)?.[1];
    if (key === undefined || !question.match(facts)) continue;
    const pairs = new Map([...question.matchAll(facts)].map((m) => [m[1] ?? "", m[2] ?? ""]));
    return { pairs, asked: key, style };
  }
  throw new Error("no facts in the question");
}

/**
 * Key-value recall: pairs scattered in story-like filler, then a question about one key. The filler
 * uses the same words as keys and values. Half of the samples have no separator after the value.
 * Values may repeat, and only one key is asked, so that a model that merely knows which values
 * occurred stays at chance.
 */
export function recallTask(range: RecallRange): Task {
  return {
    name: range.name,
    generate(rng, split) {
      const style = STYLES[rng.int(2)]!;
      const end = rng.chance(0.5) ? "." : "";
      const keys = rng.sample(KEYS[split], rng.between(...range.pairs));
      const pairs = keys.map((k) =>
        [k, drawIn(split, () => rng.pick(VALUES), (v) => pairKey(k, v))] as const
      );
      const lines = pairs.map(([k, v]) => style.fact(k, v) + end);
      const wish = rng.between(...range.filler);
      let room = range.maxChars - lines.join(" ").length - HEAD.length;
      for (let i = 0; i < wish; i++) {
        const sentence = storySentence(rng);
        room -= sentence.length + 1;
        if (room < 0) break;
        lines.splice(rng.int(lines.length + 1), 0, sentence);
      }
      const [k, v] = rng.pick(pairs);
      const question = `${HEAD} ${lines.join(" ")}\n${style.ask(k)}`;
      return sample(range.name, question, style.answer(k, v));
    },
    solve(question) {
      const { pairs, asked, style } = facts(question);
      return STYLES[style]!.answer(asked, pairs.get(asked) ?? "");
    },
    again(rng, question) {
      const { pairs, style } = facts(question);
      const [k, v] = rng.pick([...pairs]);
      return { ask: STYLES[style]!.ask(k), answer: STYLES[style]!.answer(k, v) };
    },
    values: (question) => [...facts(question).pairs].map(([k, v]) => pairKey(k, v)),
  };
}

/** Short rows of the beginning of the curriculum. */
export const recall = recallTask({ name: "recall", pairs: [2, 8], filler: [0, 3], maxChars: 420 });
/** Up to about 250 tokens. */
export const recallMid = recallTask({
  name: "recall_mid",
  pairs: [4, 20],
  filler: [0, 12],
  maxChars: 720,
});
/** Up to about 1,000 tokens. */
export const recallLong = recallTask({
  name: "recall_long",
  pairs: [8, 32],
  filler: [8, 60],
  maxChars: 3000,
});
/** Held-out measures: 16 pairs, and 12 pairs in about 256 tokens. */
export const recall16 = recallTask({
  name: "recall_16",
  pairs: [16, 16],
  filler: [0, 8],
  maxChars: 720,
});
export const recall12 = recallTask({
  name: "recall_12_256",
  pairs: [12, 12],
  filler: [40, 40],
  maxChars: 930,
});
