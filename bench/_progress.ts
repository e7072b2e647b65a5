/** A bar on standard error for work of known parts. */

/** Counts parts and says how long the rest takes. */
export interface Progress {
  /** `weight` of the whole is done; `what` comes next. */
  advance(weight: number, what: string): void;
  end(): void;
}

/** Shows nothing where standard error is no terminal. */
export function createProgress(total: number): Progress {
  const start = performance.now();
  const isShown = Deno.stderr.isTerminal();
  const write = (text: string) => {
    if (isShown) Deno.stderr.writeSync(new TextEncoder().encode(text));
  };
  let done = 0;
  return {
    advance(weight, what) {
      done += weight;
      const share = Math.min(1, done / total);
      const left = share === 0 ? "" : `${Math.round(seconds(start) * (1 / share - 1))} s left`;
      const bar = "#".repeat(Math.round(30 * share)).padEnd(30, ".");
      write(`\r\x1b[K[${bar}] ${Math.round(100 * share)} %  ${left}  ${what}`);
    },
    end: () => write("\r\x1b[K"),
  };
}

function seconds(start: number): number {
  return (performance.now() - start) / 1000;
}
