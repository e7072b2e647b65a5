/** Small problems whose conditional distribution can be enumerated, and how far samples are from it. */
import {
  choiceConstraint,
  type Constraint,
  encodePrompt,
  type LanguageModel,
  type Message,
  type TokenId,
  type Vocab,
} from "../../runtime/mod.ts";
import { memoize } from "./_memo_model.ts";
import { logNormalizer } from "../../runtime/sampling.ts";

/** A question, and the only answers allowed. */
export interface Problem {
  readonly name: string;
  readonly question: string;
  readonly answers: readonly string[];
}

const multiples = (of: number, below: number) =>
  Array.from({ length: Math.ceil(below / of) }, (_, i) => `${i * of}`);

/** The model is unsure, and what it would say is not always allowed. */
export const problems: readonly Problem[] = [
  sumOf(64, 59, 9),
  sumOf(738, 485, 2),
  sumOf(5836, 4797, 3),
  sumOf(9405, 3868, 7),
  {
    name: "sort, one of six orders",
    question: "Sort these numbers: 34 7 21",
    answers: ["7 21 35", "7 34 21", "21 7 34", "34 21 7", "7 12 34", "17 21 34"],
  },
  {
    name: "recall, another word",
    question: "Facts: fish = red. goat = tall. hat = soft. moon = cold.\nWhat is goat?",
    answers: ["red", "soft", "cold", "tiny", "table", "taller", "tan"],
  },
];

function sumOf(a: number, b: number, divisor: number): Problem {
  return {
    name: `${a} + ${b}, a multiple of ${divisor}`,
    question: `What is ${a} + ${b}?`,
    answers: multiples(divisor, 2 * (a + b)),
  };
}

/** A problem's exact laws over its answers. */
export interface Exact {
  readonly constraint: Constraint;
  readonly model: LanguageModel;
  readonly prompt: readonly TokenId[];
  /** Probability that the model answers with an allowed text by itself. */
  readonly mass: number;
  /** p(answer | allowed), in the order of the answers. */
  readonly conditional: readonly number[];
  /** What masking token by token gives. */
  readonly masked: readonly number[];
}

/** Paths less probable than this are left out; what they could add is below it per path. */
const negligible = 1e-8;

/** Follows every token sequence the constraint allows, at temperature 1. */
export async function enumerate(
  problem: Problem,
  inner: LanguageModel<"edit" | "logits"> & { readonly vocab: Vocab },
): Promise<Exact> {
  const { vocab } = inner;
  const message: Message = { role: "user", content: problem.question };
  const prompt = encodePrompt([message], vocab, { model: inner.id });
  const constraint = choiceConstraint(vocab, problem.answers);
  const memo = memoize(inner);
  const joint = new Map(problem.answers.map((answer) => [answer, 0]));
  const local = new Map(problem.answers.map((answer) => [answer, 0]));
  const open = [{ tokens: [] as TokenId[], state: constraint.start(), p: 1, q: 1 }];
  for (let path = open.pop(); path; path = open.pop()) {
    const row = await memo.row([...prompt, ...path.tokens]);
    const normalizer = logNormalizer(row);
    const share = (token: TokenId) => Math.exp(row[token]! - normalizer);
    const allowed = nextTokens(constraint, path.state, vocab);
    const mass = allowed.reduce((sum, token) => sum + share(token), 0);
    for (const token of allowed) {
      const p = path.p * share(token);
      const q = path.q * share(token) / mass;
      if (vocab.stopTokens.has(token)) {
        const text = vocab.decode(path.tokens);
        joint.set(text, joint.get(text)! + p);
        local.set(text, local.get(text)! + q);
        continue;
      }
      if (p < negligible && q < negligible) continue;
      open.push({
        tokens: [...path.tokens, token],
        state: constraint.advance(path.state, token)!,
        p,
        q,
      });
    }
  }
  const mass = sum([...joint.values()]);
  return {
    constraint,
    model: memo.model,
    prompt,
    mass,
    conditional: problem.answers.map((answer) => joint.get(answer)! / mass),
    masked: problem.answers.map((answer) => local.get(answer)!),
  };
}

function nextTokens<S>(constraint: Constraint<S>, state: S, vocab: Vocab): TokenId[] {
  const bits = new Uint32Array(Math.ceil(vocab.size / 32));
  constraint.mask!(state, bits);
  const tokens = Array.from({ length: vocab.size }, (_, token) => token)
    .filter((token) =>
      !vocab.stopTokens.has(token) && (bits[token >> 5]! >>> (token & 31) & 1) === 1
    );
  return constraint.accepting(state) ? [...tokens, ...vocab.stopTokens] : tokens;
}

/** Half the summed differences, in [0, 1]. */
export function totalVariation(a: readonly number[], b: readonly number[]): number {
  return sum(a.map((p, i) => Math.abs(p - b[i]!))) / 2;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
