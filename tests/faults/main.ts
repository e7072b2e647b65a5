/** `deno task test:faults`: the fault matrix as a table. Fails if a mode was not survived. */
import { complaints, lost, runFaults } from "./run.ts";

const { trials, server, running } = await runFaults();
const rows = trials.map((trial) => {
  const { mode, streamed, withFallback } = trial;
  const wrong = complaints(trial);
  return {
    wrong,
    lost: lost(trial),
    cells: [
      mode.name,
      mode.when,
      streamed.code ?? String(streamed.status),
      withFallback.fallbacks > 0 ? "other server" : withFallback.code ?? "same",
      wrong.length === 0 ? "survived" : wrong.join("; "),
    ],
  };
});
const head = ["fault", "when", "alone", "with a second server", "outcome"];
const widths = head.map((name, i) =>
  Math.max(name.length, ...rows.map(({ cells }) => i === 4 ? 0 : cells[i]!.length))
);
const line = (cells: readonly string[]) =>
  cells.map((cell, i) => cell.padEnd(widths[i]!)).join("  ").trimEnd() + "\n";
const survived = rows.filter(({ wrong }) => wrong.length === 0).length;
const bytes = rows.reduce((sum, row) => sum + row.lost, 0);
Deno.stdout.writeSync(
  new TextEncoder().encode(
    line(head) + rows.map(({ cells }) => line(cells)).join("") +
      `\nmodes tried ${rows.length}, survived ${survived}, bytes lost ${bytes}, ` +
      `connections left open ${server.open}, requests left running ${running}\n`,
  ),
);
if (survived < rows.length || bytes + server.open + running > 0) Deno.exit(1);
