/**
 * The beam search loop, for one group of beams (`beam.ts`) or for several that are charged for
 * repeating each other (`diverse_beam.ts`). Rules and their sources are told there.
 */
import { requireCapabilities, type TokenId } from "../runtime/mod.ts";
import { adjustedBeam, type BeamSession, hasAdjustments, plainBeam } from "./_beam_rows.ts";
import {
  type EarlyStopping,
  Hypotheses,
  type Hypothesis,
  lengthScore,
  moveSessions,
  type Path,
} from "./_beams.ts";
import { type Beam, bestFirst, type Outlook } from "./_beam_extensions.ts";
import { createMasker, deadEnd, type Masker } from "./_constrain.ts";
import { chargeFollowers, type GroupCharge } from "./_group_charge.ts";
import type { StrategyContext } from "./strategy.ts";

/** What a beam search needs of a request. */
export type BeamContext = StrategyContext<
  unknown,
  { readonly model: readonly ["edit", "topk"] }
>;

/** Settings of one search. */
export interface BeamSearchOptions {
  /** Beams per group. */
  readonly width: number;
  readonly penalty: number;
  readonly earlyStopping: EarlyStopping;
  /** Groups, searched one after the other at every token. @default 1 */
  readonly groups?: number;
  /** What later groups pay for repeating earlier ones. @default nothing */
  readonly charge?: GroupCharge | undefined;
}

/** Hypotheses of every group, best first, at most `width` each. */
export interface BeamSearchResult {
  readonly groups: readonly (readonly Hypothesis[])[];
  /** Tokens the longest search went. */
  readonly steps: number;
}

/** One group's search. */
interface Group {
  readonly found: Hypotheses;
  /** Best first; none once the group is done. */
  beams: readonly Beam[];
}

/** What every part of the search looks at. */
interface Search extends Required<Omit<BeamSearchOptions, "charge">> {
  readonly charge: GroupCharge | undefined;
  readonly maxTokens: number;
  /** Followers per beam among which the first `width` that go on are sure to be. */
  readonly needed: number;
  readonly masker: Masker | undefined;
}

/** Runs the search. */
export async function searchBeams(
  context: BeamContext,
  options: BeamSearchOptions,
): Promise<BeamSearchResult> {
  const { constraint, trace } = context;
  const search = searchOf(context, options);
  const groups = openGroups(context, search);
  let length = 0;
  try {
    for (;;) {
      for (const group of groups) closeIfDone(group, search, length);
      const live = groups.filter(({ beams }) => beams.length > 0);
      if (live.length === 0) break;
      await advance(live, ++length, search);
      const count = (of: (group: Group) => number) => groups.reduce((sum, g) => sum + of(g), 0);
      trace({
        type: "beams",
        length,
        live: count(({ beams }) => beams.length),
        finished: count(({ found }) => found.best.length),
      });
    }
  } finally {
    for (const { beams } of groups) close(beams);
  }
  const isEmpty = groups.every(({ found }) => found.best.length === 0);
  if (isEmpty && constraint) throw deadEnd(constraint);
  return { groups: groups.map(({ found }) => found.best), steps: length };
}

function searchOf(context: BeamContext, options: BeamSearchOptions): Search {
  const { models: { model }, maxTokens, constraint, ignoreStop } = context;
  const vocab = model.vocab!;
  const { width, earlyStopping, groups = 1, charge } = options;
  return {
    ...options,
    groups,
    charge,
    maxTokens,
    // One beam is greedy: the first hypothesis is the result.
    earlyStopping: width === 1 ? true : earlyStopping,
    // Enough that `width` are left when every stop token is among them; one share to spare for
    // candidates that complete a stop string.
    needed: (2 + vocab.stopTokens.size) * width,
    masker: constraint && createMasker(constraint, vocab, ignoreStop),
  };
}

function openGroups(context: BeamContext, { groups, width, masker }: Search): Group[] {
  const root = openBeam(context);
  return Array.from({ length: groups }, (_, i) => ({
    found: new Hypotheses(width),
    beams: [{
      at: i === 0 ? root : root.fork(),
      path: undefined,
      sum: 0,
      stops: context.createStopCheck(),
      state: masker?.start(),
    }],
  }));
}

function openBeam(context: BeamContext): BeamSession {
  const { models: { model }, prompt, sampling, logprobs, constraint } = context;
  const topLogprobs = logprobs ?? 0;
  if (!constraint && !hasAdjustments(sampling)) {
    return plainBeam(model.session(prompt), { topLogprobs });
  }
  const session = requireCapabilities(model, ["edit", "logits"]).session(prompt);
  return adjustedBeam(session, { topLogprobs, sampling, promptLength: session.length });
}

function closeIfDone(group: Group, search: Search, length: number): void {
  const { earlyStopping, penalty, maxTokens } = search;
  const live = { bestSum: group.beams[0]?.sum, length, maxLength: maxTokens };
  if (!group.found.isDone(live, earlyStopping, penalty)) return;
  close(group.beams);
  group.beams = [];
}

/** One token more for every group: one step for all, then the groups choose in order. */
async function advance(live: readonly Group[], length: number, search: Search): Promise<void> {
  const { charge, width, needed } = search;
  const earlier: (readonly Path[])[] = [];
  const spare = live.map((_, g) => charge && g > 0 ? charge.diversity.spare(g * width) : 0);
  const outlooks = await Promise.all(
    live.map((group, g) => look(group, length - 1, needed + spare[g]!, search)),
  );
  if (charge && live.length > 1) {
    const seen = outlooks.flat().flatMap(({ followers }) => followers);
    await charge.diversity.prepare(seen.map(({ token }) => token.token));
  }
  for (const [g, group] of live.entries()) {
    const charged = charge && g > 0
      ? await chargeAll(outlooks[g]!, earlier, needed + spare[g]!, { ...search, charge })
      : outlooks[g]!;
    const { beams, paths } = select(group, charged, length, search);
    group.beams = beams;
    earlier.push(paths);
  }
}

/** Followers of a group's beams. Beams that cannot go on complete or drop out. */
async function look(
  { beams, found }: Group,
  length: number,
  count: number,
  { masker, penalty }: Search,
): Promise<readonly Outlook[]> {
  const outlooks = await Promise.all(beams.map(async (beam) => {
    const { at, path, sum, state } = beam;
    const mask = masker?.mask(state);
    if (mask?.isEmpty) {
      const score = lengthScore(sum, length, penalty);
      if (mask.isComplete) found.add({ path, sum, score, length, reason: "stop" });
      return { beam, followers: [], more: () => Promise.resolve([]) };
    }
    const more = (count: number) => at.followers(count, mask?.bits);
    return { beam, followers: await more(count), more };
  }));
  return outlooks;
}

function chargeAll(
  outlooks: readonly Outlook[],
  earlier: readonly (readonly Path[])[],
  count: number,
  { charge, needed }: Search & { readonly charge: GroupCharge },
): Promise<readonly Outlook[]> {
  const against = charge.diversity.against(earlier);
  return Promise.all(outlooks.map(async (outlook) => {
    const prices = against(outlook.beam.path);
    const followers = await chargeFollowers(outlook, { charge, prices, count, needed });
    return { ...outlook, followers };
  }));
}

/**
 * The next beams; candidates that end become hypotheses if they rank among the first `width`. Later
 * groups are charged for the paths of those that go on or would, but for the limit.
 */
function select(
  { found, beams }: Group,
  outlooks: readonly Outlook[],
  length: number,
  { width, maxTokens, penalty, masker }: Search,
): { readonly beams: readonly Beam[]; readonly paths: readonly Path[] } {
  const paths: Path[] = [];
  const chosen: { beam: Omit<Beam, "at">; parent: BeamSession; token: TokenId }[] = [];
  let rank = 0;
  for (const { parent, follower, sum } of bestFirst(outlooks)) {
    const { token } = follower.token;
    const path = { token: follower.token, before: parent.path };
    const stops = parent.stops.fork();
    const reason = stops.push(token) ? "stop" : length === maxTokens ? "length" : undefined;
    if (reason === undefined) {
      const beam = { path, sum, stops, state: parent.state };
      chosen.push({ beam, parent: parent.at, token });
    } else if (rank < width) {
      found.add({ path, sum, score: lengthScore(sum, length, penalty), length, reason });
    }
    if (reason !== "stop") paths.push(path);
    rank++;
    if (chosen.length === width || (length === maxTokens && rank === width)) break;
  }
  const sessions = moveSessions(beams.map(({ at }) => at), chosen);
  const next = chosen.map(({ beam, token }, i) => ({
    ...beam,
    at: sessions[i]!,
    state: masker?.advance(beam.state, token),
  }));
  return { beams: next, paths };
}

function close(beams: readonly Beam[]): void {
  for (const { at } of beams) at[Symbol.dispose]();
}
