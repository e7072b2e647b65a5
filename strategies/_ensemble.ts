/**
 * One completion drawn from a combination of models that take turns at proposing.
 *
 * Every proposal is checked against the combination with the law of the model that drew it; the token
 * after a full run is drawn from the verifier's own law and is itself a proposal, never output as it
 * is. Source: https://arxiv.org/abs/2502.01662, algorithms 1 and 2, for any number of models. Differs
 * from the printed ones: after a rejection the tokens kept before it stay, and the default proposer
 * goes on.
 */
import {
  logNormalizer,
  type Session,
  type TokenId,
  type TokenLogprob,
  topCandidates,
} from "../runtime/mod.ts";
import { type Combination, type DrawShape, ownLaw } from "./_combine.ts";
import type { TokenMask } from "./_constrain.ts";
import type { Decider } from "./_deciders.ts";
import { EnsembleSequence, type Pending, type SequenceOptions } from "./_ensemble_sequence.ts";

/** How the models work together. */
export type Framework = "alternate" | "naive" | "plain" | Gate;

/** The proposer alone until its law defers; what it proposes from there on waits for the others. */
export interface Gate {
  /** Whether the proposer's own draw stands, by its row alone: the combination's law is then its own. */
  readonly speaks: (row: Float32Array, shape: DrawShape) => boolean;
  /** The others are asked once so many tokens wait, or `gamma` of those at which it deferred. */
  readonly ahead: number;
}

/** Everything one completion depends on. */
export interface EnsembleOptions extends SequenceOptions {
  /** At the same prompt, each with enough rollback for all pending tokens. */
  readonly sessions: readonly Session<"edit" | "logits">[];
  readonly combination: Combination;
  readonly decider: Decider;
  readonly framework: Framework;
  /** Index of the model that proposes first, and again after each rejection. */
  readonly proposer: number;
  /** How many tokens that one proposes at a time; others propose one. */
  readonly gamma: number;
  readonly logprobs: number | undefined;
}

/** What one model knows and did. */
class Voice {
  /** Its logits at the first pending positions, in order. */
  readonly rows: Float32Array[] = [];
  calls = 0;
  proposed = 0;
  accepted = 0;
  constructor(readonly session: Session<"edit" | "logits">) {}
}

/** See file comment. */
export class Ensemble implements Disposable {
  readonly voices: readonly Voice[];
  readonly #options: EnsembleOptions;
  readonly #sequence: EnsembleSequence;
  /** Decided tokens that were not the proposer's alone to decide; where there is a gate. */
  deferrals = 0;

  constructor(options: EnsembleOptions) {
    const { sessions } = options;
    this.#options = options;
    this.voices = sessions.map((session) => new Voice(session));
    this.#sequence = new EnsembleSequence([...sessions[0]!.tokens], options);
  }

  /** Why the completion ended; undefined while it goes on. */
  get reason(): "stop" | "length" | undefined {
    return this.#sequence.reason;
  }

  /**
   * Calls the model whose turn it is, and decides what can be decided.
   *
   * @returns the tokens that are decided now, maybe none
   * @throws {ConstraintError} if the constraint allows neither a token nor the end
   */
  async advance(): Promise<readonly TokenLogprob[]> {
    const { framework, proposer } = this.#options;
    if (this.#sequence.waiting === 0) {
      const mask = this.#sequence.decidedMask;
      if (mask?.isEmpty) {
        this.#sequence.finish(mask);
        return [];
      }
      if (framework === "plain") return await this.#drawTogether(mask);
      if (typeof framework === "object") return await this.#gated(framework);
      await this.#turn(proposer);
      if (framework === "naive") await this.#askOthers(proposer);
    } else {
      await this.#turn(this.#leastKnowing());
    }
    return this.#decide();
  }

  /** All models, then one draw from the combination. */
  async #drawTogether(mask: TokenMask | undefined): Promise<readonly TokenLogprob[]> {
    const { combination, decider } = this.#options;
    await Promise.all(this.voices.map((voice) => this.#ask(voice)));
    const rows = this.#headRows();
    const law = combination.law(rows, this.#sequence.decidedShape(mask));
    const token = decider.draw(law, this.#sequence.length);
    const emitted = this.#logprob(token, rows);
    this.#settle(token);
    return [emitted];
  }

  /** One token if the proposer speaks, otherwise as many as may wait for the others. */
  async #gated({ speaks, ahead }: Gate): Promise<readonly TokenLogprob[]> {
    const { proposer, gamma } = this.#options;
    const voice = this.voices[proposer]!;
    const sequence = this.#sequence;
    for (let open = 0; open < gamma && sequence.waiting < ahead;) {
      if (sequence.waiting > 0 && !sequence.mayPropose()) break;
      await this.#ask(voice);
      const isOwn = speaks(voice.rows.at(-1)!, sequence.nextShape());
      this.#propose(proposer, !isOwn);
      if (isOwn && open === 0) return [this.#speak(voice)];
      if (!isOwn) open++;
    }
    await this.#askOthers(proposer);
    return this.#decide();
  }

  /** The only pending token is certain without the others. */
  #speak(voice: Voice): TokenLogprob {
    const head = this.#sequence.shift()!;
    const emitted = this.#logprobIn(head.token, () => voice.rows[0]!);
    voice.accepted++;
    this.#settle(head.token, head);
    return emitted;
  }

  /** Every other model computes its laws; none of them proposes. */
  async #askOthers(proposer: number): Promise<void> {
    await Promise.all(this.voices.map(async (voice, i) => {
      if (i === proposer) return;
      await this.#ask(voice);
      voice.rows.length = this.#sequence.waiting;
    }));
  }

  /** A model computes its laws up to the end and proposes what comes next. */
  async #turn(index: number): Promise<void> {
    const { proposer, gamma } = this.#options;
    const voice = this.voices[index]!;
    for (let i = 0; i < (index === proposer ? gamma : 1); i++) {
      if (i > 0 && !this.#sequence.mayPropose()) return;
      await this.#ask(voice);
      if (!this.#sequence.mayPropose()) {
        voice.rows.length = this.#sequence.waiting;
        return;
      }
      this.#propose(index, true);
    }
  }

  /** Draws a proposal from the model's last row. */
  #propose(index: number, isOpen: boolean): void {
    const voice = this.voices[index]!;
    const sequence = this.#sequence;
    const law = ownLaw(voice.rows.at(-1)!, sequence.nextShape());
    const token = this.#options.decider.draw(law, sequence.length + sequence.waiting);
    sequence.propose({ token, owner: index, law, isOpen });
    voice.proposed++;
  }

  /** One pass over what the model has not computed: rows up to the one after the last proposal. */
  async #ask(voice: Voice): Promise<void> {
    const { session, rows } = voice;
    const { prompt, proposed, waiting } = this.#sequence;
    session.append(proposed.slice(session.length - prompt.length));
    voice.calls++;
    rows.push(...await session.logits({ last: waiting + 1 - rows.length }));
  }

  /** Checks pending tokens from the first on, as far as every model's law is known. */
  #decide(): readonly TokenLogprob[] {
    const { combination, decider } = this.#options;
    const decided: TokenLogprob[] = [];
    const sequence = this.#sequence;
    while (sequence.waiting > 0 && this.voices.every(({ rows }) => rows.length > 0)) {
      const head = sequence.shift()!;
      const rows = this.#headRows();
      const law = combination.law(rows, sequence.decidedShape(head.mask));
      const { kept, token } = decider.check(head.token, head.law, law, sequence.length);
      decided.push(this.#logprob(token, rows));
      if (head.isOpen) this.deferrals++;
      if (kept) this.voices[head.owner]!.accepted++;
      else this.#takeBack();
      this.#settle(token, kept ? head : undefined);
      if (sequence.reason) break;
    }
    return decided;
  }

  /** Nothing pending counts any more. */
  #takeBack(): void {
    this.#sequence.takeBack();
    for (const { rows, session } of this.voices) {
      rows.length = 0;
      session.truncate(Math.min(session.length, this.#sequence.length));
    }
  }

  /** A decided token: a proposal of which nothing was changed, or another. */
  #settle(token: TokenId, proposal?: Pending): void {
    this.#sequence.settle(token, proposal);
    for (const { rows } of this.voices) rows.shift();
  }

  #leastKnowing(): number {
    const known = this.voices.map(({ rows }) => rows.length);
    return known.indexOf(Math.min(...known));
  }

  #headRows(): readonly Float32Array[] {
    return this.voices.map(({ rows }) => rows[0]!);
  }

  /** Of the combination at temperature 1, not of one model. */
  #logprob(token: TokenId, rows: readonly Float32Array[]): TokenLogprob {
    return this.#logprobIn(token, () => this.#options.combination.raw(rows));
  }

  #logprobIn(token: TokenId, read: () => Float32Array): TokenLogprob {
    const { logprobs } = this.#options;
    if (logprobs === undefined) return { token, logprob: 0, top: [] };
    const row = read();
    const normalizer = logNormalizer(row);
    const top = topCandidates(row, logprobs, normalizer);
    return { token, logprob: row[token]! - normalizer, top };
  }

  [Symbol.dispose](): void {
    for (const { session } of this.voices) session[Symbol.dispose]();
  }
}
