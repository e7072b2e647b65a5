/** A sequence's tables as executors take them, and what their slots mean. */
import type { SlotPlace } from "../backend/backend.ts";
import type { PageTables } from "../engine/executor.ts";
import type { KvFormat, KvGranularity } from "./policy.ts";
import type { KvTable, Segment } from "./table.ts";

/** How a sequence's tables are cut. */
export interface KvShape {
  readonly granularity: KvGranularity;
  /** Tables, and pieces a page is taken apart into. */
  readonly groups: number;
}

/** The page tables, with `tokens` reserved slots counted. */
export function pageTablesOf(
  tables: readonly KvTable[],
  granularity: KvGranularity,
  tokens: number,
): PageTables {
  const pages = tables.map(({ plain }) => pageList(plain));
  const counts = Uint32Array.from(tables, ({ plain }) => plain.count + tokens);
  const format = tables.find(({ encoded }) => encoded !== undefined)?.encoded?.format;
  const reads = tables.some(({ read }) => read !== undefined);
  return {
    granularity,
    pages,
    counts,
    ...format === undefined || format === "f32" ? {} : {
      encoded: {
        format,
        pages: tables.map(({ encoded }) => encoded ? pageList(encoded) : new Uint32Array(0)),
        counts: Uint32Array.from(tables, ({ firstPlain }) => firstPlain),
      },
    },
    ...reads
      ? {
        read: tables.map(({ read }) => read?.slots),
        readFrom: Uint32Array.from(tables, ({ read }) => read?.from ?? 0),
      }
      : {},
  };
}

/** What physical slots of a format mean; undefined = the default of edits. */
export function placeOf(granularity: KvGranularity, format: KvFormat): SlotPlace | undefined {
  return granularity === "sequence" && format === "f32" ? undefined : { granularity, format };
}

function pageList(segment: Segment): Uint32Array {
  return segment.table ??= Uint32Array.from(segment.pages);
}
