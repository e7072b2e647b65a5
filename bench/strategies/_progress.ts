/** How far a part is, on standard error; silent where nobody watches. */

/** @param part name of the part @returns a bar per stretch of work */
export function createProgress(part: string): (label: string, all: number) => () => void {
  const isWatched = Deno.stderr.isTerminal();
  return (label, all) => {
    const started = performance.now();
    let done = 0;
    return () => {
      if (!isWatched) return;
      const share = ++done / all;
      const left = (performance.now() - started) / 1000 * (1 / share - 1);
      const bar = "#".repeat(Math.round(share * 30)).padEnd(30, ".");
      const end = done === all ? "\n" : "";
      const text = `\r${part} ${label} [${bar}] ${done}/${all}  ${left.toFixed(0)} s left   ${end}`;
      Deno.stderr.writeSync(new TextEncoder().encode(text));
    };
  };
}
