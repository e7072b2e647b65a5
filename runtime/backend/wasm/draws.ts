/**
 * Draws over large vocabularies: the tokens, log-probabilities and entropies that sampling/draw.ts
 * gives, to the bit. Kernels do the passes over the vocabulary; what decides is computed here, by the
 * same functions in double precision.
 */
import { isUnadjusted } from "../../sampling/adjust.ts";
import { expTable } from "../../sampling/rows.ts";
import { tokenGumbel } from "../../rng.ts";
import type { Drawn, DrawSpec } from "../backend.ts";
import { SCAN_TOKENS } from "./kernels/noise_scan.ts";
import { STATS } from "./kernels/row_stats.ts";
import type { Step } from "./step.ts";
import type { WasmTensor } from "./tensor.ts";

/** Whether {@link draw} can make it: no filter, and nothing that changes logits. */
export function canDraw(draw: DrawSpec, vocab: number): boolean {
  if (vocab < SCAN_TOKENS || !isUnadjusted({ ...draw, mask: draw.mask })) return false;
  const { temperature, topK, topP, minP, typicalP } = draw.sampling;
  return temperature === 0 || (topK === 0 && topP >= 1 && minP === 0 && typicalP >= 1);
}

/**
 * Draws from the first `vocab` columns of rows of logits.
 *
 * @returns per draw, undefined where the row holds no distribution
 */
export function draw(
  step: Step,
  logits: WasmTensor,
  vocab: number,
  draws: readonly DrawSpec[],
): readonly (Drawn | undefined)[] {
  const { heap, scope, team } = step;
  const columns = logits.shape[1]!;
  const rows = [...new Set(draws.map(({ row }) => row))];
  const table = scope.block("exponentials", expTable.byteLength);
  const out = scope.block("row stats", STATS.bytes * rows.length);
  const place = scope.block("next token", 4);
  heap.bytes.set(new Uint8Array(expTable.buffer), table);
  const at = (row: number) => logits.address + 4 * columns * row;
  team.run("rowStats", rows.map((row, i) => [at(row), vocab, table, out + STATS.bytes * i]));
  const view = new DataView(heap.memory.buffer, out, STATS.bytes * rows.length);
  return draws.map((spec) => {
    const from = STATS.bytes * rows.indexOf(spec.row);
    const best = view.getInt32(from + STATS.best, true);
    const max = view.getFloat32(from + STATS.max, true);
    const sum = view.getFloat64(from + STATS.sum, true);
    if (!(sum >= 1)) return undefined;
    const weighted = view.getFloat64(from + STATS.weighted, true);
    const logSum = Math.log(sum), first = at(spec.row) / 4;
    const { temperature } = spec.sampling;
    const token = temperature === 0
      ? best
      : perturbed(step, { spec, first, vocab, best, max, place });
    return {
      token,
      logprob: heap.floats[first + token]! - (max + logSum),
      entropy: Math.max(0, logSum - weighted / sum),
    };
  });
}

interface Row {
  readonly spec: DrawSpec;
  /** Index of its first logit among the heap's floats. */
  readonly first: number;
  readonly vocab: number;
  readonly best: number;
  readonly max: number;
  /** Where the kernel writes a number. */
  readonly place: number;
}

/** Room for rounding in the kernel's bound. */
const SLACK = 1.001;

/** Arg max of score plus noise, ties by lower id. */
function perturbed({ heap, kernels }: Step, row: Row): number {
  const { spec: { sampling, position }, first, vocab, best, max, place } = row;
  const { seed, temperature } = sampling;
  const noise = new Float64Array(4);
  let winner = -1, highest = -Infinity;
  /** Scores the tokens of one block of four, as sampling/draw.ts does. */
  const score = (block: number) => {
    tokenGumbel(noise, seed, position, block);
    for (let id = 4 * block; id < Math.min(vocab, 4 * block + 4); id++) {
      const value = (heap.floats[first + id]! - max) / temperature + noise[id & 3]!;
      if (value > highest || (value === highest && id < winner)) {
        highest = value;
        winner = id;
      }
    }
  };
  const whole = vocab - vocab % SCAN_TOKENS;
  score(best >> 2);
  for (let block = whole >> 2; 4 * block < vocab; block++) score(block);
  const inverse = 1 / temperature;
  for (let from = 0; from < whole; from += SCAN_TOKENS) {
    const limit = SLACK * Math.exp(-highest);
    kernels.noiseScan(
      4 * first,
      from,
      vocab,
      max,
      inverse,
      limit,
      position,
      seed.low,
      seed.high,
      place,
    );
    from = heap.words[place / 4]!;
    if (from >= whole) break;
    for (let block = from >> 2; 4 * block < from + SCAN_TOKENS; block++) score(block);
  }
  return winner;
}
