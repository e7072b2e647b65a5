/** The completion is a text of a grammar. */
import { FormatError } from "../../errors.ts";
import type { Vocab } from "../../model.ts";
import { byteConstraint, type MaskedConstraint } from "../byte_constraint.ts";
import { Budget } from "../regex/budget.ts";
import { byteTrie } from "../regex/byte_trie.ts";
import { GrammarAutomaton, type GrammarState } from "./automaton.ts";
import { buildNetwork, finishing, type Network, refuseLeftRecursion } from "./network.ts";
import { parseGrammar } from "./parse.ts";

/** A grammar before it meets a vocabulary: plain data, so that it can be made in a Worker. */
export type GrammarProgram = Network;

/** Place in the text: all ways to read it so far. */
export type { GrammarState } from "./automaton.ts";

const limits = {
  maxNodes: 50_000,
  maxCompileSteps: 2_000_000,
  maxMaskSteps: 3_000_000,
  cachedMaskBytes: 4 << 20,
};

/**
 * The program of a grammar in GBNF. See `parse.ts` for the notation.
 *
 * @throws {FormatError} with the offset of what is malformed, for left recursion, or without texts
 * @throws {ConstraintTooComplexError} above a limit
 */
export function compileGrammar(text: string): GrammarProgram {
  const budget = new Budget(limits.maxCompileSteps);
  const network = buildNetwork(parseGrammar(text), limits.maxNodes, budget);
  refuseLeftRecursion(network, budget);
  if (!finishing(network, () => true)[network.starts[network.root]!]) {
    throw new FormatError("no text ever ends", { source: "grammar" });
  }
  return network;
}

/**
 * A constraint that allows the texts of a grammar's `root`, however their bytes are cut into tokens.
 * Where the vocabulary lacks single bytes, only ways on through bytes it has count.
 *
 * @throws {FormatError} | {ConstraintTooComplexError} as {@link compileGrammar}; above a limit also
 *   from `mask` and `advance`
 * @throws {RangeError} if the vocabulary can write none of the texts
 */
export function grammarConstraint(text: string, vocab: Vocab): MaskedConstraint<GrammarState> {
  return grammarProgramConstraint(compileGrammar(text), vocab);
}

/** The same for a grammar that was compiled before. */
export function grammarProgramConstraint(
  network: GrammarProgram,
  vocab: Vocab,
): MaskedConstraint<GrammarState> {
  const { single } = byteTrie(vocab);
  const alive = finishing(network, (lo, hi) => single.subarray(lo, hi + 1).includes(1));
  const automaton = new GrammarAutomaton(network, alive);
  const start = automaton.start(new Budget(limits.maxMaskSteps));
  if (!start) throw new RangeError("The vocabulary cannot write any text of the grammar");
  const constraint = byteConstraint("grammar", automaton, start, vocab, limits);
  constraint.mask(start, new Uint32Array(Math.ceil(vocab.size / 32)));
  return constraint;
}
