/** Result files that a run which was cut short goes on with, and the texts that are scored. */
import type { Vocab } from "../../runtime/mod.ts";
import type { Point } from "./_measure.ts";

/** A point of one adapter; "none" (or `--label`): of a policy without one. */
export interface AdapterPoint extends Point {
  readonly adapter: string;
}

/** The points of a JSON Lines file; none if there is no such file. */
export async function readPoints<T>(file: string): Promise<T[]> {
  try {
    const text = await Deno.readTextFile(file);
    return text.trim().split("\n").filter(Boolean).map((line) => JSON.parse(line) as T);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** Adds a point to the file and to `points`. */
export async function keepPoint<T>(file: string, points: T[], point: T): Promise<void> {
  points.push(point);
  await Deno.writeTextFile(file, JSON.stringify(point) + "\n", { append: true });
}

/** Stretches of `length` tokens of stories one after the other. */
export async function readTexts(
  file: string,
  vocab: Vocab,
  { length = 320, count = 48 } = {},
): Promise<readonly (readonly number[])[]> {
  const stories = (await Deno.readTextFile(file)).split(/\n\n+/);
  const tokens = stories.flatMap((story) => [...vocab.encode(story), 0]);
  return Array.from({ length: count }, (_, i) => tokens.slice(i * length, (i + 1) * length));
}
