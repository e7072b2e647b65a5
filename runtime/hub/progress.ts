/**
 * How far a download is: measuring and showing.
 */

/** One report about one file. */
export interface Progress {
  readonly file: string;
  /** Bytes on disk, including those of an earlier run. */
  readonly received: number;
  readonly total: number;
  /** Over the last seconds; undefined until there is something to measure. */
  readonly bytesPerSecond: number | undefined;
  readonly secondsLeft: number | undefined;
}

export interface ProgressMeter {
  /** Call with every change. Reports at most every `everyMs`, and always at the end. */
  update(received: number): void;
}

const WINDOW_MS = 5000;

/**
 * Measures one file's download.
 *
 * @param now milliseconds from a monotonic clock
 */
export function createMeter(
  file: { readonly name: string; readonly total: number },
  now: () => number,
  report: (progress: Progress) => void,
  everyMs: number = 100,
): ProgressMeter {
  let samples: { readonly at: number; readonly received: number }[] = [];
  let reportedAt = -Infinity;
  return {
    update(received) {
      const at = now();
      // Started over: the old samples would give a negative rate.
      if (received < (samples.at(-1)?.received ?? 0)) samples = [];
      if (at - reportedAt < everyMs && received < file.total) return;
      reportedAt = at;
      samples.push({ at, received });
      while (samples.length > 2 && at - samples[0]!.at > WINDOW_MS) samples.shift();
      report({ file: file.name, received, total: file.total, ...rate(samples, file.total) });
    },
  };
}

function rate(
  samples: readonly { readonly at: number; readonly received: number }[],
  total: number,
): Pick<Progress, "bytesPerSecond" | "secondsLeft"> {
  const [first, last] = [samples[0], samples.at(-1)];
  const elapsed = first && last ? last.at - first.at : 0;
  if (!first || !last || elapsed <= 0) return { bytesPerSecond: undefined, secondsLeft: undefined };
  const bytesPerSecond = (last.received - first.received) / elapsed * 1000;
  const secondsLeft = bytesPerSecond > 0 ? (total - last.received) / bytesPerSecond : undefined;
  return { bytesPerSecond, secondsLeft };
}

/**
 * One line for a terminal:
 * `model.safetensors  [######--------------]  30 %  1.2 GB of 4.0 GB  12.5 MB/s  3 min 44 s left`.
 *
 * @param width longest line in characters; the bar shrinks and then goes @default 100
 */
export function renderProgress(progress: Progress, width: number = 100): string {
  const { file, received, total, bytesPerSecond, secondsLeft } = progress;
  const share = total > 0 ? Math.min(1, received / total) : 1;
  const end = [
    `${Math.floor(share * 100)} %`.padStart(5),
    `${formatBytes(received)} of ${formatBytes(total)}`,
    bytesPerSecond === undefined ? "" : `${formatBytes(bytesPerSecond)}/s`,
    secondsLeft === undefined || received >= total ? "" : `${formatSeconds(secondsLeft)} left`,
  ].filter((part) => part !== "").join("  ");
  const room = Math.min(30, width - file.length - end.length - 6);
  if (room < 5) return `${file}  ${end.trimStart()}`.slice(0, width);
  const filled = Math.floor(share * room);
  return `${file}  [${"#".repeat(filled)}${"-".repeat(room - filled)}]  ${end}`;
}

/** Decimal units with three digits: "999 B", "1.5 kB", "12.5 MB". */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  // 999.95 would be shown as 1000.0, so the step to the next unit is taken below it.
  while (value >= (unit === 0 ? 999.5 : 999.95) && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** "8 s", "3 min 44 s", "2 h 05 min"; whole seconds, rounded up. */
export function formatSeconds(seconds: number): string {
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${pad(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${pad(Math.floor(whole % 3600 / 60))} min`;
}

const pad = (value: number): string => String(value).padStart(2, "0");
