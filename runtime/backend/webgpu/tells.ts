/**
 * What rows of logits say, read off on the device, so that some numbers come back and not the rows:
 * normaliser, entropy, most likely tokens, logits of single tokens. sampling/rows.ts and top_k.ts say
 * what they are; sums are made in f32 here.
 */
import * as kernels from "../../../shaders/mod.ts";
import { ShapeError } from "../../errors.ts";
import type { LogitsAsk, LogitsSummary, Told } from "../backend.ts";
import { matrix } from "../cpu/tensor.ts";
import { all, KEPT, partsOf, rowStats, topOf, WIDTH } from "./draws.ts";
import { stepData } from "./recorder.ts";
import type { Stage } from "./stage.ts";
import type { GpuTensor } from "./tensor.ts";

/** Words of a draw in the step's data, of which only the row's number is looked at. */
const DRAW = 16;
/** Steps of one loop at most times what one workgroup looks at. */
const LARGEST_VOCAB = 1024 * 32_768;

/** Whether {@link tell} can answer; it names 64 tokens of a row at most. */
export function canTell({ top, target = 0 }: LogitsAsk, vocab: number): boolean {
  return top <= Math.min(KEPT, vocab) && target < vocab && vocab <= LARGEST_VOCAB;
}

/**
 * @param logits [rows, padded vocabulary]
 * @returns statistics [asks, 24]; values and ids of the most likely tokens [asks with any, 64]; logits
 * of targets [asks with one]
 */
export function tell(
  stage: Stage,
  logits: GpuTensor,
  vocab: number,
  asks: readonly LogitsAsk[],
): Told {
  const [rows, stride] = matrix("tell", logits);
  if (vocab > stride || asks.some(({ row }) => row >= rows)) {
    throw new ShapeError(
      "tell",
      `logits are [${rows}, ${stride}], ${vocab} tokens are asked about`,
    );
  }
  const count = asks.length, x = logits.target;
  const words = new Uint32Array(DRAW * count);
  asks.forEach(({ row }, i) => words[DRAW * i] = row);
  const stats = stage.slice("tell", [count, WIDTH]);
  const at = stage.data.put(words), found = partsOf(stage, count, vocab);
  rowStats(stage, x, stride, 0, { vocab, at, count, found, stats }, { RAW: 1 });
  const told: { -readonly [K in keyof Told]: Told[K] } = {
    stats: stage.tensor("tell", [count, WIDTH], stats),
  };
  const topped = asks.filter(({ top }) => top > 0);
  if (topped.length > 0) {
    const numbers = stage.data.put(Uint32Array.from(topped, ({ row }) => row));
    const { values, ids } = topOf(stage, x, topped.length, vocab, { stride, at: numbers });
    told.top = stage.tensor("top_k", [topped.length, KEPT], values);
    told.ids = stage.tensor("top_k", [topped.length, KEPT], ids);
  }
  const places = asks.flatMap(({ row, target }) =>
    target === undefined ? [] : [row * stride + target]
  );
  if (places.length > 0) {
    const targets = stage.slice("tell", [places.length]);
    stage.dispatch(
      kernels.gatherRows,
      [1, stage.data.put(Uint32Array.from(places))],
      [x, stepData, all(targets)],
      [1, places.length, 1],
    );
    told.targets = stage.tensor("tell", [places.length], targets);
  }
  return told;
}

/** What {@link tell} found, read back; undefined for rows that the host has to look at. */
export function summariesFrom(
  { stats, top, ids, targets }: Readonly<Record<keyof Told, Float32Array | undefined>>,
  asks: readonly LogitsAsk[],
): (LogitsSummary | undefined)[] {
  const words = new Uint32Array(stats!.buffer, stats!.byteOffset, stats!.length);
  const names = ids && new Uint32Array(ids.buffer, ids.byteOffset, ids.length);
  let listed = 0, named = 0;
  return asks.map((ask, i) => {
    const at = i * WIDTH, list = listed, name = named;
    if (ask.top > 0) listed++;
    if (ask.target !== undefined) named++;
    const largest = stats![at]!, sum = stats![at + 3]!, weighted = stats![at + 4]!;
    // Not a distribution: the host says so.
    if (words[at + 5]! > 0 || !(sum >= 1) || !(largest > -3.3e38)) return undefined;
    const logSum = Math.log(sum), logNormalizer = largest + logSum;
    const first = KEPT * list;
    const tokens = names?.subarray(first, first + ask.top) ?? new Uint32Array(0);
    if (ask.top > 0 && tokens.includes(0xffffffff)) return undefined; // impossible tokens among them
    return {
      best: words[at + 1]!,
      logNormalizer,
      entropy: Math.max(0, logSum - weighted / sum),
      top: ask.top === 0 ? [] : Array.from(
        tokens,
        (token, j) => ({ token, logprob: top![first + j]! - logNormalizer }),
      ),
      ...ask.target === undefined ? {} : { target: targets![name]! },
    };
  });
}
