/** One JSON line per result, on standard output and in bench/results/. */

/** What every line carries beside its own fields. */
export interface Environment {
  readonly commit: string;
  readonly date: string;
  readonly device: string;
  readonly cores: number;
  readonly deno: string;
  readonly v8: string;
}

/** Takes one result: name, numbers, units in the keys. */
export type Report = (line: Readonly<Record<string, unknown>>) => void;

/** A reporter that prints each line at once and remembers all of them. */
export function createReport(environment: Environment): { report: Report; lines: string[] } {
  const lines: string[] = [];
  return {
    lines,
    report(line) {
      const text = JSON.stringify({ ...line, ...environment });
      lines.push(text);
      // deno-lint-ignore no-console
      console.log(JSON.stringify(line));
    },
  };
}

/**
 * Median (of an even number: the mean of the middle two) and 90th percentile of measurements.
 *
 * @throws {RangeError} for none
 */
export function summary(values: readonly number[]): { median: number; p90: number; runs: number } {
  if (values.length === 0) throw new RangeError("Cannot summarise no measurements");
  const sorted = [...values].sort((a, b) => a - b);
  const at = (q: number) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!;
  const below = sorted[Math.floor((sorted.length - 1) / 2)]!;
  return { median: round((below + at(0.5)) / 2), p90: round(at(0.9)), runs: values.length };
}

/** Four significant digits: more would be noise. */
export function round(value: number): number {
  return Number(value.toPrecision(4));
}
