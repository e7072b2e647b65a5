/** Laws every Strategy satisfies. */
import type { SamplingParams } from "../../runtime/mod.ts";
import type { Strategy } from "../../strategies/mod.ts";
import { type FakeModel, hashModel } from "../fakes/mod.ts";
import { endingLaws } from "./_strategy_ending.ts";
import { outputLaws } from "./_strategy_output.ts";
import { refusalLaws } from "./_strategy_refusals.ts";
import { sharingLaws, testEquivalence } from "./_strategy_sharing.ts";

/** What a strategy declares about itself. */
export interface StrategyCase {
  /** Parameter sets to try. @default the defaults */
  readonly params?: readonly Readonly<Record<string, unknown>>[];
  /** Most choices the parameters allow. @default 3 */
  readonly maxChoices?: number;
  /** New models, one per role. @default a hash model each, with logits of their own */
  readonly models?: () => Readonly<Record<string, FakeModel>>;
  /** Most steps a run may take. @default one per token */
  readonly steps?: (run: { readonly tokens: number; readonly params: unknown }) => number;
  /** Runs with these parameters and this sampling equal another strategy's. */
  readonly same?: readonly StrategyEquivalence[];
  /** Laws that do not hold, and why. */
  readonly skip?: readonly { readonly law: string; readonly reason: string }[];
}

/** A declared equivalence. */
export interface StrategyEquivalence {
  readonly params: Readonly<Record<string, unknown>>;
  readonly sampling?: Partial<SamplingParams>;
  readonly as: Strategy;
  readonly asParams?: Readonly<Record<string, unknown>>;
}

/** A strategy with one parameter set, ready to be run. */
export interface Subject {
  readonly strategy: Strategy;
  readonly params: Readonly<Record<string, unknown>>;
  readonly maxChoices: number;
  readonly models: () => Readonly<Record<string, FakeModel>>;
  readonly steps: NonNullable<StrategyCase["steps"]>;
}

/** Registers a test unless the law is skipped. */
export type RegisterLaw = (law: string, fn: (subject: Subject) => Promise<void>) => void;

/** Registers one test per law and parameter set. */
export function testStrategy(strategy: Strategy, options: StrategyCase = {}): void {
  const { skip = [], same = [], params: cases = [{}], maxChoices = 3 } = options;
  const models = options.models ?? (() => {
    const roles = Object.keys({ ...strategy.needs, ...strategy.optionalNeeds });
    return Object.fromEntries(
      roles.map((role, i) => [role, hashModel({ seed: i + 1, stopBias: 0.5 })]),
    );
  });
  for (const params of cases) {
    const steps = options.steps ?? (({ tokens }) => tokens);
    const subject: Subject = { strategy, params, maxChoices, models, steps };
    const register: RegisterLaw = (law, fn) => {
      const skipped = skip.find((entry) => entry.law === law);
      const note = skipped ? ` (skipped: ${skipped.reason})` : "";
      Deno.test({
        name: `${strategy.name} ${JSON.stringify(params)}: ${law}${note}`,
        ignore: skipped !== undefined,
        fn: () => fn(subject),
      });
    };
    outputLaws(register);
    endingLaws(register);
    sharingLaws(register);
    refusalLaws(register);
  }
  for (const equivalence of same) testEquivalence(strategy, models, equivalence);
}
