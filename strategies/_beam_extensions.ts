/** Beams and what may follow them, best first. */
import type { BeamSession, Follower } from "./_beam_rows.ts";
import type { Path } from "./_beams.ts";
import type { StopCheck } from "./strategy.ts";

/** A partial completion. */
export interface Beam {
  readonly at: BeamSession;
  readonly path: Path | undefined;
  readonly sum: number;
  readonly stops: StopCheck;
  /** State of the constraint, where there is one. */
  readonly state: unknown;
}

/** What may follow a beam. */
export interface Outlook {
  readonly beam: Beam;
  readonly followers: readonly Follower[];
  /** Reads more of them. */
  readonly more: (count: number) => Promise<readonly Follower[]>;
}

/** A beam and one token more. */
export interface Extension {
  readonly parent: Beam;
  readonly follower: Follower;
  readonly sum: number;
}

/** Merges lists that are sorted already; between equals the better beam, then the lower token id. */
export function* bestFirst(outlooks: readonly Outlook[]): Generator<Extension, void, void> {
  const next = outlooks.map(() => 0);
  for (;;) {
    let best: Extension | undefined, at = 0;
    for (let i = 0; i < outlooks.length; i++) {
      const { beam: parent, followers } = outlooks[i]!;
      const follower = followers[next[i]!];
      if (!follower) continue;
      const sum = parent.sum + follower.logprob;
      if (best !== undefined && sum <= best.sum) continue;
      best = { parent, follower, sum };
      at = i;
    }
    if (best === undefined) return;
    next[at]!++;
    yield best;
  }
}
