/**
 * Laws of every LanguageModel with all capabilities: sessions are values, answers are functions of
 * the tokens alone, and asks agree with each other.
 */
import type { LanguageModel, Session, TokenId } from "../../runtime/mod.ts";
import { createRng, type Rng, seedFrom } from "../../runtime/mod.ts";
import { answerLaws } from "./_model_answers.ts";
import { lifetimeLaws } from "./_model_lifetime.ts";
import { valueLaws } from "./_model_values.ts";

/** A model under test. */
export interface OpenModel {
  readonly model: LanguageModel;
  close(): Promise<void> | void;
  /** Sessions not yet closed, where it can be told. */
  readonly openSessions?: () => number;
}

/** Which laws cannot hold or be run. */
export interface LanguageModelLawOptions {
  /** Why none of the laws can be run here, e.g. data that is missing. */
  readonly ignore?: string | undefined;
  readonly skip?: readonly { readonly law: string; readonly reason: string }[];
}

/** What one law works with. */
export interface LawModel extends OpenModel {
  readonly rng: Rng;
  /** Random tokens that do not end a completion. */
  tokens(count: number): TokenId[];
  /** A session on `tokens`; closed with the model. */
  open(tokens: readonly TokenId[], rollback?: number): Session;
  /** Logits after `tokens`, from a session of its own. */
  fresh(tokens: readonly TokenId[]): Promise<Float32Array>;
}

/** Registers one law. */
export type DefineLaw = (law: string, run: (context: LawModel) => Promise<void> | void) => void;

/** Registers the laws as tests of the model `name`. */
export function testLanguageModel(
  name: string,
  open: () => Promise<OpenModel> | OpenModel,
  options: LanguageModelLawOptions = {},
): void {
  const { skip = [], ignore } = options;
  const define: DefineLaw = (law, run) => {
    const reason = ignore ?? skip.find((entry) => entry.law === law)?.reason;
    Deno.test({
      name: `${name}: ${law}${reason === undefined ? "" : ` (ignored: ${reason})`}`,
      ignore: reason !== undefined,
      async fn() {
        const opened = await open();
        try {
          await run(lawModel(opened, law));
        } finally {
          await opened.close();
        }
      },
    });
  };
  valueLaws(define);
  answerLaws(define);
  lifetimeLaws(define);
}

function lawModel(opened: OpenModel, law: string): LawModel {
  const { model } = opened;
  let seed = 0;
  for (const char of law) seed = seed * 31 + char.charCodeAt(0) | 0;
  const rng = createRng(seedFrom(seed));
  const usable = Array.from({ length: model.vocab!.size }, (_, token) => token)
    .filter((token) => !model.vocab!.isSpecial(token));
  return {
    ...opened,
    rng,
    tokens: (count) => Array.from({ length: count }, () => pick(rng, usable)),
    open: (tokens, rollback = 0) => model.session(tokens, { rollback }),
    async fresh(tokens) {
      using session = model.session(tokens);
      return (await session.logits())[0]!;
    },
  };
}

/** One of the values. */
export function pick<T>(rng: Rng, values: readonly T[]): T {
  return values[Math.floor(rng.next() * values.length)]!;
}

/** Integer in [from, to]. */
export function between(rng: Rng, from: number, to: number): number {
  return from + Math.floor(rng.next() * (to - from + 1));
}
