/** Results of a part's units in a file, so that a part that was cut short goes on where it was. */

/** Results by name. */
export interface Kept {
  /** The kept result of a unit, or that of `work`, which is kept. Results are plain JSON. */
  once<T>(unit: string, work: () => Promise<T>): Promise<T>;
  /** How many units were found. */
  readonly found: number;
  /** Removes the file: the part is complete. */
  done(): Promise<void>;
}

interface Line {
  readonly setup: string;
  readonly unit: string;
  readonly value: unknown;
}

/**
 * Opens a file of results; those of another setup are left out, as is a line that was cut.
 *
 * @param setup what results depend on beside their unit, in one text
 */
export async function openKept(path: string, setup: string): Promise<Kept> {
  const lines = (await readLines(path)).filter((line) => line.setup === setup);
  const values = new Map(lines.map(({ unit, value }) => [unit, value]));
  // Written whole first: nothing is appended to half a line.
  await Deno.writeTextFile(path, lines.map(textOf).join(""));
  return {
    found: values.size,
    async once<T>(unit: string, work: () => Promise<T>): Promise<T> {
      if (values.has(unit)) return values.get(unit) as T; // this setup's own JSON
      const value = await work();
      values.set(unit, value);
      await Deno.writeTextFile(path, textOf({ setup, unit, value }), { append: true });
      return value;
    },
    done: () => Deno.remove(path),
  };
}

const textOf = (line: Line) => JSON.stringify(line) + "\n";

async function readLines(path: string): Promise<readonly Line[]> {
  try {
    return (await Deno.readTextFile(path)).split("\n").flatMap(parse);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

function parse(text: string): readonly Line[] {
  try {
    const line: unknown = JSON.parse(text);
    return isLine(line) ? [line] : [];
  } catch {
    return []; // cut in the middle, or the empty end
  }
}

function isLine(line: unknown): line is Line {
  return typeof line === "object" && line !== null && "setup" in line && "unit" in line &&
    "value" in line && typeof line.setup === "string" && typeof line.unit === "string";
}
