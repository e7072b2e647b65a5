/** Parameters that policies share, and what they come to for one sequence. */
import * as z from "zod";
import { PolicyError } from "../../errors.ts";
import { groupTokens } from "../formats.ts";
import type { KvEdit, KvFormat, KvGroup, KvModel, KvView } from "../policy.ts";

export const formatParam = z.enum(["f32", "int8", "int4", "kivi4"]).default("f32").describe(
  "How kept tokens are stored. 8 and 4 bits take about 28 and 16 % of the bytes. kivi4 = 4 bits, keys " +
    "per channel of 32 tokens, which are dropped together.",
);
/** Defaults of policies that keep a number of tokens. */
const usual = { window: 32, sinks: 4 };

export const sinksParam = z.int().min(0).max(64).default(usual.sinks).describe(
  "First tokens, which are always kept.",
);
export const intervalParam = z.int().min(1).max(512).default(16).describe(
  "Tokens between evictions; a cache may exceed its budget by one less than that.",
);

/** Of policies whose rule attention follows token by token, whatever the interval. */
export const freeingParam = z.int().min(1).max(512).optional().describe(
  "Tokens between two times of freeing memory; up to one less than that are in memory and not seen. " +
    "16 unless places are those in the cache, which need 1 to be exact.",
);

/** Share of the prompt to keep where neither a budget nor a ratio is given. */
export const defaultRatio = 0.5;

/** Of policies that keep a number of tokens. */
export const budgetShape = {
  budget: z.int().min(1).optional().describe("Tokens to keep per layer and KV head."),
  ratio: z.number().gt(0).max(1).optional().describe(
    "Share of the prompt to keep instead of a number of tokens, but no less than sinks and window; " +
      "0.5 if neither is given.",
  ),
  sinks: sinksParam,
  window: z.int().min(1).max(1 << 20).default(usual.window).describe(
    "Newest tokens, which are always kept, the current one included.",
  ),
  interval: intervalParam,
  format: formatParam,
};

/** See {@link budgetShape}. */
export interface BudgetParams {
  readonly budget?: number | undefined;
  readonly ratio?: number | undefined;
  readonly sinks: number;
  readonly window: number;
  /** @default 16 */
  readonly interval?: number | undefined;
  readonly format: z.output<typeof formatParam>;
}

/** Tokens to keep: the budget, or the ratio of the prompt but no less than sinks and window. */
export function budgetOf(
  { budget, ratio = defaultRatio, sinks, window }: BudgetParams,
  prompt: number,
) {
  return budget ?? Math.max(sinks + window, Math.round(ratio * prompt));
}

/** @throws {PolicyError} if the parameters contradict each other or the model */
export function checkBudget(
  name: string,
  params: BudgetParams,
  { contextLength }: KvModel,
): void {
  const { budget, ratio, sinks, window } = params;
  if (budget !== undefined && ratio !== undefined) {
    throw new PolicyError(name, "takes budget or ratio, not both", "ratio");
  }
  checkWindow(name, sinks, window, contextLength);
  if (budget !== undefined) checkRoom(name, { budget }, { window, sinks }, usual);
}

/** Tokens by the parameter that asks for them. */
export type Parts = Readonly<Record<string, number>>;

/** @throws {PolicyError} if what is always kept or read exceeds the context, naming the largest part */
export function checkWindow(
  name: string,
  sinks: number,
  window: number,
  contextLength: number,
  more: Parts = {},
): void {
  const parts = { window, sinks, ...more };
  if (sumOf(parts) <= contextLength) return;
  throw new PolicyError(
    name,
    `${listOf(parts)} together exceed the context of ${contextLength} tokens`,
    largestOf(parts),
  );
}

/**
 * Checks that what is always kept or read fits into a bound.
 *
 * @param bound the parameter that bounds it
 * @param usual the parts by default
 * @param rest tokens of the bound that must be left
 * @throws {PolicyError} naming the largest part, or the bound if it would be too small for `usual` too
 */
export function checkRoom(
  name: string,
  bound: Parts,
  parts: Parts,
  usual: Parts,
  rest = 0,
): void {
  const most = sumOf(bound) - rest;
  if (sumOf(parts) <= most) return;
  const [param] = Object.keys(bound);
  throw new PolicyError(
    name,
    `${listOf(bound)} has no room for ${listOf(parts)}${rest > 0 ? ` and ${rest} more` : ""}`,
    sumOf(usual) > most ? param : largestOf(parts),
  );
}

function sumOf(parts: Parts): number {
  return Object.values(parts).reduce((sum, tokens) => sum + tokens, 0);
}

function listOf(parts: Parts): string {
  return Object.entries(parts).map(([param, tokens]) => `${param} ${tokens}`).join(", ");
}

function largestOf(parts: Parts): string {
  return Object.entries(parts).reduce((a, b) => b[1] > a[1] ? b : a)[0];
}

/** Makes an issue of the first parameter that was given and that only `users` look at. */
export function refuseUnused(
  context: z.RefinementCtx,
  given: Readonly<Record<string, unknown>>,
  users: string,
): void {
  const unused = Object.keys(given).find((param) => given[param] !== undefined);
  if (unused === undefined) return;
  context.addIssue({ code: "custom", path: [unused], message: `only ${users} uses it` });
}

/** Slots of committed tokens: policies may drop or encode these. */
export function settledCount({ positions }: KvGroup, { committed }: KvView): number {
  let count = positions.length;
  while (count > 0 && positions[count - 1]! >= committed) count--;
  return count;
}

/**
 * The edits that leave `kept` of a group's settled slots (ascending), stored in `format` as far as whole
 * groups of that format are there. Tokens that are not committed stay as they are.
 *
 * @param ripe how many of what is kept may be encoded where that is done in groups. @default all
 */
export function editsOf(
  group: number,
  { positions, encoded }: Pick<KvGroup, "positions" | "encoded">,
  settled: number,
  kept: readonly number[] | undefined,
  format: KvFormat,
  ripe: number = kept?.length ?? settled,
): KvEdit[] {
  const edits: KvEdit[] = [];
  const count = kept?.length ?? settled;
  if (kept !== undefined && kept.length < settled) {
    const slots = new Uint32Array(kept.length + positions.length - settled);
    slots.set(kept);
    for (let i = kept.length; i < slots.length; i++) slots[i] = settled + i - kept.length;
    edits.push({ op: "keep", group, slots });
  }
  if (format === "f32") return edits;
  const old = kept === undefined ? encoded : kept.filter((slot) => slot < encoded).length;
  const size = groupTokens(format), most = size === 1 ? count : ripe;
  const fresh = Math.floor(Math.max(0, most - old) / size) * size;
  if (fresh > 0) edits.push({ op: "encode", group, slots: old + fresh, format });
  return edits;
}

/**
 * Slots to keep, ascending, with all others of their groups where encoded slots can only be dropped in
 * groups: for rules with a `lifetime`, which hides those until the last one of the group is due.
 */
export function withWholeGroups(
  kept: readonly number[],
  { encoded }: Pick<KvGroup, "encoded">,
  format: KvFormat,
): readonly number[] {
  const size = groupTokens(format);
  if (size === 1 || encoded === 0) return kept;
  const groups = new Set<number>();
  for (const slot of kept) if (slot < encoded) groups.add(Math.floor(slot / size));
  const whole = [...groups].flatMap((group) =>
    Array.from({ length: size }, (_, i) => group * size + i)
  );
  return [...whole, ...kept.filter((slot) => slot >= encoded)];
}
