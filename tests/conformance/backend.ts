/**
 * Laws of every Backend: each op agrees with plain double-precision loops over awkward shapes, and a
 * row's result does not depend on its neighbours, its chunks or where its pages lie.
 */
import type { Backend, KvPool, KvSupport } from "../../runtime/backend/backend.ts";
import type { KvSignal } from "../../runtime/kv/policy.ts";
import { attentionLaws } from "./_backend_attention.ts";
import { drawLaws } from "./_backend_draws.ts";
import { opLaws } from "./_backend_ops.ts";
import { kvLaws } from "./_backend_kv.ts";
import { signalLaws } from "./_backend_signals.ts";
import { type CreateWithThreads, threadLaws } from "./_backend_threads.ts";
import type { Expected } from "./_backend_reference.ts";

/** How exact a backend is, and what it leaves out. */
export interface BackendLawOptions {
  /**
   * Accepted error of a result that adds up `terms` products, in units of 2^-24 (half a unit in the
   * last place of an f32) of the sum of the absolute values of the terms.
   * @default 2 whatever `terms` is: sums in double precision, one rounding
   */
  readonly roundings?: (terms: number) => number;
  /** Reads a recorded signal; without it the laws about signals are not run. */
  readonly readSignal?: (
    pool: KvPool,
    signal: KvSignal,
    layer: number,
    kvHead: number,
    slots: Uint32Array,
  ) => Float32Array | Promise<Float32Array>;
  /** For backends with threads; without it the law about their number is not run. */
  readonly createWithThreads?: CreateWithThreads;
  /** What the backend can do for KV policies; the laws about it are run for that. */
  readonly kv?: KvSupport;
  /** Laws that cannot hold, by name. */
  readonly skip?: readonly { readonly law: string; readonly reason: string }[];
}

/** What the laws are run with. */
export interface LawContext {
  readonly create: () => Backend | Promise<Backend>;
  /** Compares results of sums over `terms` products. */
  assertClose(actual: Float32Array, expected: readonly Expected[], terms: number): void;
  /** Registers a test, unless it is listed in `skip`. */
  law(name: string, run: (backend: Backend) => Promise<void>): void;
}

/** Registers the laws as tests of the backend `name`. */
export function testBackend(
  name: string,
  create: () => Backend | Promise<Backend>,
  options: BackendLawOptions = {},
): void {
  const { roundings = () => 2, readSignal, kv, createWithThreads, skip = [] } = options;
  const context: LawContext = {
    create,
    assertClose: (actual, expected, terms) => assertClose(actual, expected, roundings(terms)),
    law(law, run) {
      const skipped = skip.find((entry) => entry.law === law);
      Deno.test({
        name: `${name} backend: ${law}${skipped ? ` (ignored: ${skipped.reason})` : ""}`,
        ignore: skipped !== undefined,
        async fn() {
          using backend = await create();
          await run(backend);
        },
      });
    },
  };
  opLaws(context);
  drawLaws(context);
  attentionLaws(context);
  if (readSignal !== undefined) signalLaws(context, readSignal);
  if (kv !== undefined) kvLaws(context, kv);
  if (createWithThreads !== undefined) threadLaws(context, createWithThreads);
}

function assertClose(actual: Float32Array, expected: readonly Expected[], roundings: number): void {
  if (actual.length !== expected.length) {
    throw new Error(`expected ${expected.length} values, got ${actual.length}`);
  }
  for (const [i, { value, magnitude }] of expected.entries()) {
    const tolerance = roundings * 2 ** -24 * magnitude + 2 ** -126;
    const error = Math.abs(actual[i]! - value);
    if (!(error <= tolerance)) {
      throw new Error(`value ${i}: expected ${value} within ${tolerance}, got ${actual[i]}`);
    }
  }
}
