/** Ask: one awaited question to a sequence, and how its answer is put together from steps. */
import { EngineError } from "../errors.ts";
import type { TokenId } from "../model.ts";
import type { Answer, Want } from "./executor.ts";
import type { Sequence } from "./sequence.ts";

/** Draft tokens below a sequence's end, ready for a row. */
export interface TreeQuery {
  readonly kind: "tree";
  readonly tokens: Uint32Array;
  readonly parents: readonly number[];
  /** 0 for children of the sequence's end. */
  readonly depths: Uint32Array;
}

/** What is asked. */
export type Query =
  | Extract<Want, { kind: "sample" }>
  | { readonly kind: "topk"; readonly k: number }
  | { readonly kind: "logits" | "entropy" }
  | { readonly kind: "score"; readonly targets: readonly TokenId[] }
  | { readonly kind: "hidden"; readonly layer: number }
  | TreeQuery;

/** What an {@link Ask} is made of. */
export interface AskSpec {
  readonly query: Query;
  /** First position whose output is read. */
  readonly from: number;
  /** Position after the last one read. */
  readonly end: number;
}

/** See file comment. */
export class Ask {
  readonly order: number;
  readonly owner: object;
  readonly sequence: Sequence;
  readonly query: Query;
  readonly end: number;
  /** First position not yet answered. */
  next: number;
  isSettled = false;
  readonly #parts: Answer[] = [];
  readonly #from: number;
  readonly #resolve: (answer: Answer) => void;
  readonly #reject: (reason: unknown) => void;

  constructor(
    order: number,
    owner: object,
    sequence: Sequence,
    spec: AskSpec,
    resolve: (answer: Answer) => void,
    reject: (reason: unknown) => void,
  ) {
    this.order = order;
    this.owner = owner;
    this.sequence = sequence;
    this.query = spec.query;
    this.#from = this.next = spec.from;
    this.end = spec.end;
    this.#resolve = resolve;
    this.#reject = reject;
    sequence.asks++;
  }

  /** What a row that ends before position `to` can tell, or undefined for nothing. */
  want(to: number, isFinal: boolean): Want | undefined {
    const { query, next } = this;
    const last = to - next;
    switch (query.kind) {
      case "sample":
        return isFinal ? query : undefined;
      case "tree":
        return isFinal ? { kind: "logits", last: query.tokens.length } : undefined;
      case "topk":
        return last > 0 ? { kind: "topk", k: query.k, last } : undefined;
      case "hidden":
        return last > 0 ? { kind: "hidden", layer: query.layer, last } : undefined;
      case "score": {
        if (last <= 0) return undefined;
        const start = next - this.#from;
        return {
          kind: "score",
          targets: Uint32Array.from(query.targets.slice(start, start + last)),
        };
      }
      default:
        return last > 0 ? { kind: query.kind, last } : undefined;
    }
  }

  /** Takes the answer to a want; resolves with the last one. */
  take(answer: Answer, to: number, isFinal: boolean): void {
    if (this.isSettled) return;
    if (answer.kind === "failed") return this.fail(failureOf(answer));
    this.#parts.push(answer);
    this.next = to;
    if (!isFinal) return;
    this.#settle();
    try {
      this.#resolve(joinAnswers(this.#parts));
    } catch (error) {
      this.#reject(error);
    }
  }

  fail(reason: unknown): void {
    if (this.isSettled) return;
    this.#settle();
    this.#reject(reason);
  }

  #settle(): void {
    this.isSettled = true;
    this.sequence.asks--;
    this.sequence.releaseIfUnused();
  }
}

function failureOf({ name, message }: { name: string; message: string }): Error {
  return name === "RangeError" ? new RangeError(message) : new EngineError(message);
}

/** Parts of one answer, oldest positions first. @throws {EngineError} if they do not fit together */
function joinAnswers(parts: readonly Answer[]): Answer {
  const [first] = parts;
  if (first === undefined) throw new EngineError("The executor gave no answer");
  if (parts.length === 1) return first;
  switch (first.kind) {
    case "topk":
      return { kind: "topk", rows: parts.flatMap((part) => expectKind(part, "topk").rows) };
    case "logits":
    case "hidden": {
      const { kind } = first;
      return { kind, rows: parts.flatMap((part) => expectKind(part, kind).rows) };
    }
    case "score":
    case "entropy": {
      const { kind } = first;
      const values = parts.flatMap((part) => [...expectKind(part, kind).values]);
      return { kind, values: Float32Array.from(values) };
    }
    default:
      throw new EngineError(`An answer of kind ${first.kind} came in parts`);
  }
}

type AnswerOf<K> = Answer extends infer A
  ? A extends { readonly kind: infer U } ? K extends U ? A : never : never
  : never;

/** The answer, if it is of the kind asked for. @throws {EngineError} */
export function expectKind<K extends Answer["kind"]>(answer: Answer, kind: K): AnswerOf<K> {
  if (isKind(answer, kind)) return answer;
  throw new EngineError(`The executor answered ${answer.kind} to ${kind}`);
}

function isKind<K extends Answer["kind"]>(
  answer: Answer,
  kind: K,
): answer is Answer & AnswerOf<K> {
  return answer.kind === kind;
}
