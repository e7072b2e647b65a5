/** The rows of a batch as one step's tensors, and where in them each row's results are. Pure. */
import type { AttentionRow } from "../backend/backend.ts";
import { logitsNeeded } from "./answers.ts";
import type { Row } from "./executor.ts";

/** Where a row's results are in the step's tensors. */
export interface StepRows {
  readonly tokens: Uint32Array;
  readonly positions: Uint32Array;
  readonly rows: readonly AttentionRow[];
  readonly logitTokens: Uint32Array;
  /** Per row, its first entry of `logitTokens`. */
  readonly logitStarts: readonly number[];
  readonly hiddenTokens: ReadonlyMap<number, Uint32Array>;
  /** Per row, layer -> first of its rows in that layer's tensor. */
  readonly hiddenStarts: readonly ReadonlyMap<number, number>[];
}

/**
 * Lays the rows out one after another.
 *
 * @throws {RangeError} if a row cannot answer its wants
 */
export function rowsOfStep(rows: readonly Row[], layers: number): StepRows {
  const count = rows.reduce((sum, row) => sum + row.tokens.length, 0);
  const tokens = new Uint32Array(count), positions = new Uint32Array(count);
  const attentionRows: AttentionRow[] = [];
  const logitTokens: number[] = [], logitStarts: number[] = [];
  const hiddenTokens = new Map<number, number[]>(), hiddenStarts: Map<number, number>[] = [];
  let start = 0;
  for (const row of rows) {
    checkRow(row, layers);
    tokens.set(row.tokens, start);
    positions.set(row.positions, start);
    const length = row.tokens.length, end = start + length;
    attentionRows.push({
      start,
      length,
      ...row.tables,
      ...(row.signals === undefined ? {} : { signals: row.signals }),
      ...(row.rule === undefined ? {} : { rule: row.rule, ruleFrom: row.ruleFrom ?? 0 }),
      ...(row.treeMask === undefined ? {} : { treeMask: row.treeMask }),
    });
    logitStarts.push(logitTokens.length);
    for (let t = end - logitsNeeded(row); t < end; t++) logitTokens.push(t);
    const starts = new Map<number, number>();
    for (const layer of hiddenLayers(row)) {
      let wanted = hiddenTokens.get(layer);
      if (wanted === undefined) hiddenTokens.set(layer, wanted = []);
      starts.set(layer, wanted.length);
      for (let t = end - hiddenNeeded(row, layer); t < end; t++) wanted.push(t);
    }
    hiddenStarts.push(starts);
    start = end;
  }
  return {
    tokens,
    positions,
    rows: attentionRows,
    logitTokens: Uint32Array.from(logitTokens),
    logitStarts,
    hiddenTokens: new Map([...hiddenTokens].map(([layer, at]) => [layer, Uint32Array.from(at)])),
    hiddenStarts,
  };
}

/** @throws {RangeError} if the row cannot answer its wants */
function checkRow(row: Row, layers: number): void {
  const length = row.tokens.length;
  if (length === 0) throw new RangeError("A row needs at least one token");
  if (row.positions.length !== length) {
    throw new RangeError(`A row of ${length} tokens has ${row.positions.length} positions`);
  }
  const needed = Math.max(
    logitsNeeded(row),
    ...hiddenLayers(row).map((layer) => hiddenNeeded(row, layer)),
  );
  if (needed > length) throw new RangeError(`A row of ${length} tokens is asked for ${needed}`);
  for (const layer of hiddenLayers(row)) {
    if (layer > layers) throw new RangeError(`Layer ${layer} is above the last, ${layers}`);
  }
}

function hiddenLayers(row: Row): number[] {
  const layers = row.wants.flatMap((want) => want.kind === "hidden" ? [want.layer] : []);
  return [...new Set(layers)];
}

/** How many of a row's last tokens have to give the hidden state of `layer`. */
export function hiddenNeeded(row: Row, layer: number): number {
  return row.wants.reduce(
    (most, want) =>
      want.kind === "hidden" && want.layer === layer ? Math.max(most, want.last) : most,
    0,
  );
}
