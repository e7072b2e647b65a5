/** scored(): policies that rank tokens and keep the best within a budget, beside sinks and a window. */
import * as z from "zod";
import { groupTokens } from "../formats.ts";
import type { KvGranularity, KvGroup, KvModel, KvPolicy, KvSignal, KvView } from "../policy.ts";
import { budgetOf, type BudgetParams, budgetShape, checkBudget, defaultRatio } from "./_params.ts";
import { editsOf, settledCount } from "./_params.ts";

/** What a ranking looks at. */
export interface Ranked<P> {
  readonly params: P;
  readonly model: KvModel;
  readonly view: KvView;
  readonly group: KvGroup;
  /** Settled slots; scores are needed for these. */
  readonly count: number;
}

/** A method in a few words. */
export interface ScoredSpec<P extends BudgetParams> {
  readonly name: string;
  readonly source: string;
  readonly summary: string;
  readonly granularity: KvGranularity;
  readonly signals: readonly KvSignal[];
  /** Evicts once, at the end of the prompt, and keeps all that comes after. @default false */
  readonly promptOnly?: boolean;
  /** Where recording of signals begins. @default 0 */
  readonly recordFrom?: (params: P, promptLength: number) => number;
  readonly params: z.ZodType<P>;
  /** Tokens to keep in a group, if not the same in all. */
  readonly budget?: (budget: number, ranked: Ranked<P>) => number;
  /** One value per settled slot, larger = keep; ties go to the newer token. */
  score(ranked: Ranked<P>): ArrayLike<number>;
}

/** Parameters of methods that have none of their own. */
export const budgetParams = z.strictObject(budgetShape).transform(withRatio);
/** The same for methods that evict once: there is no interval. */
export const promptParams = z.strictObject(budgetShape).omit({ interval: true })
  .transform(withRatio);

/** The ratio of requests that give neither is among the parameters that ran. */
function withRatio<P extends BudgetParams>(params: P): P {
  const { budget, ratio } = params;
  return budget === undefined && ratio === undefined ? { ratio: defaultRatio, ...params } : params;
}

interface State<P> {
  readonly params: P;
  readonly model: KvModel;
  /** Whether the prompt was compressed. */
  readonly isDone: boolean;
}

/** See file comment. Nothing changes while there are no more tokens than the budget. */
export function scored<P extends BudgetParams>(spec: ScoredSpec<P>): KvPolicy<State<P>, P> {
  const { name, source, summary, granularity, signals, promptOnly = false } = spec;
  return {
    name,
    source,
    summary,
    family: "eviction",
    lossless: false,
    granularity,
    signals,
    params: spec.params,
    format: ({ format }) => format,
    schedule: (params, _layout, promptLength) => ({
      prompt: Infinity,
      decode: promptOnly && params.format === "f32" ? Infinity : params.interval ?? 16,
      recordFrom: spec.recordFrom?.(params, promptLength) ?? 0,
      recordTo: promptOnly ? promptLength : Infinity,
    }),
    check: (params, model) => checkBudget(name, params, model),
    init: (layout, params, model) => ({
      params,
      model: model ?? { layout, heads: layout.kvHeads, contextLength: Infinity },
      isDone: false,
    }),
    fork: (state) => state,
    plan(state, view) {
      const { params } = state, { format } = params;
      const evicts = !promptOnly || !state.isDone;
      const budget = budgetOf(params, view.promptLength);
      const edits = view.groups.flatMap((group, g) => {
        const count = settledCount(group, view);
        const ranked = { params, model: state.model, view, group, count };
        const own = spec.budget?.(budget, ranked) ?? budget;
        const kept = evicts && count > own ? best(own, ranked, spec) : undefined;
        return editsOf(g, group, count, kept, format, olderThanWindow(kept, ranked));
      });
      return { state: { ...state, isDone: true }, edits };
    },
  };
}

/** Slots that can only be kept or dropped together. */
interface Unit {
  readonly slots: readonly number[];
  /** Mean of its slots. */
  readonly score: number;
  readonly isForced: boolean;
}

/**
 * Slots to keep, ascending. Slots that are stored in groups are ranked by the group's mean, and a group
 * that does not fit into what is left of the budget gives way to others that do.
 */
function best<P extends BudgetParams>(
  budget: number,
  ranked: Ranked<P>,
  spec: ScoredSpec<P>,
): number[] {
  const units = unitsOf(ranked, spec.score(ranked));
  const kept = units.filter(({ isForced }) => isForced).flatMap(({ slots }) => slots);
  const rest = units.filter(({ isForced }) => !isForced);
  rest.sort((a, b) => b.score - a.score || b.slots[0]! - a.slots[0]!);
  let left = budget - kept.length;
  for (const { slots } of rest) {
    if (slots.length > left) continue;
    kept.push(...slots);
    left -= slots.length;
  }
  return kept.sort((a, b) => a - b);
}

function unitsOf<P extends BudgetParams>(
  { params: { sinks, window, format }, view, group: { positions, encoded }, count }: Ranked<P>,
  scores: ArrayLike<number>,
): Unit[] {
  const size = groupTokens(format), units: Unit[] = [];
  const isForced = (slot: number) =>
    positions[slot]! < sinks || positions[slot]! >= view.committed - window;
  for (let slot = 0; slot < count;) {
    const length = slot < encoded ? size : 1;
    const slots = Array.from({ length }, (_, i) => slot + i);
    const score = slots.reduce((sum, one) => sum + scores[one]!, 0) / length;
    units.push({ slots, score, isForced: slots.some(isForced) });
    slot += length;
  }
  return units;
}

/** How many of the kept slots are not in the window, whose tokens could not go one by one otherwise. */
function olderThanWindow<P extends BudgetParams>(
  kept: readonly number[] | undefined,
  { params: { window }, view, group: { positions }, count }: Ranked<P>,
): number {
  const slots = kept ?? Array.from({ length: count }, (_, slot) => slot);
  return slots.filter((slot) => positions[slot]! < view.committed - window).length;
}
