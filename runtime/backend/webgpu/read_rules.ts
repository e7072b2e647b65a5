/** Rows whose tokens choose what they read: told apart by kinds of scores, with numbers for their lists. */
import type { KvFormat, ReadRule } from "../../kv/policy.ts";
import type { AttentionRow } from "../backend.ts";
import { ruleOf } from "../cpu/row_slots.ts";

/** Tokens that choose by one kind of score. */
export interface Ruled {
  readonly score: ReadRule["score"];
  readonly adapter: string | undefined;
  /** Of older slots. */
  readonly format: KvFormat;
  readonly rows: readonly AttentionRow[];
  readonly tokens: readonly { readonly token: number; readonly view: number }[];
  /** Number of the first one's list; the others' follow. */
  readonly first: number;
  readonly mostSlots: number;
}

/** Rows that choose by one kind of score. */
export interface Kind {
  readonly rule: ReadRule;
  readonly format: KvFormat;
  /** By the row's number, the number of its first list; lists are numbered over all kinds. */
  readonly firsts: Map<number, number>;
  lists: number;
}

/** The kinds of a layer's rows. */
export function kindsOf(rows: readonly AttentionRow[], layer: number): Kind[] {
  const kinds = new Map<string, Kind & { readonly rows: number[] }>();
  for (const [r, row] of rows.entries()) {
    if (!isRuled(row, layer)) continue;
    const rule = row.rule!, format = row.encoded?.format ?? "f32";
    const key = `${rule.score} ${rule.adapter} ${format}`;
    let kind = kinds.get(key);
    if (kind === undefined) {
      kinds.set(key, kind = { rule, format, firsts: new Map(), lists: 0, rows: [] });
    }
    kind.rows.push(r);
  }
  let next = 0;
  for (const kind of kinds.values()) {
    for (const r of kind.rows) {
      const count = rows[r]!.length - ruleFromOf(rows[r]!);
      kind.firsts.set(r, next);
      kind.lists += count;
      next += count;
    }
  }
  return [...kinds.values()];
}

/** @param views by the row's number, the word of its view */
export function ruledOf(
  { rule, format, firsts }: Kind,
  rows: readonly AttentionRow[],
  views: ReadonlyMap<number, number>,
): Ruled {
  const members = [...firsts.keys()];
  return {
    score: rule.score,
    adapter: rule.adapter,
    format,
    first: firsts.get(members[0]!)!,
    rows: members.map((r) => rows[r]!),
    mostSlots: Math.max(...members.map((r) => slotsOf(rows[r]!))),
    tokens: members.flatMap((r) => {
      const row = rows[r]!, from = ruleFromOf(row), view = views.get(r)!;
      return Array.from(
        { length: row.length - from },
        (_, i) => ({ token: row.start + from + i, view }),
      );
    }),
  };
}

/** Whether some token of the row chooses at this layer. */
export function isRuled(row: AttentionRow, layer: number): boolean {
  return ruleOf(row, layer, row.length - 1) !== undefined;
}

/** First token of the row that a rule may choose for. */
export function ruleFromOf(row: AttentionRow): number {
  return Math.min(row.length, row.ruleFrom ?? 0);
}

/** The most that one of its tables counts. */
export function slotsOf({ counts, encoded }: AttentionRow): number {
  return counts.reduce((most, count, g) => Math.max(most, count + (encoded?.counts[g] ?? 0)), 0);
}

/** Most slots that a rule of the row chooses. */
export function roomOf(row: AttentionRow): number {
  const { budget, sinks, window } = row.rule!;
  return Math.min(slotsOf(row), Math.max(budget, sinks + Math.max(1, window)));
}
