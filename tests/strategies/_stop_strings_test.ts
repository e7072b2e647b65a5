import { assertEquals, assertThrows } from "@std/assert";
import { createRng, seedFrom } from "../../runtime/mod.ts";
import {
  advanceStops,
  compileStops,
  completedStop,
  heldBack,
  startStops,
} from "../../strategies/_stop_strings.ts";

/** Position after the first stop string to be complete, and which one: by looking everywhere. */
function firstStop(text: string, stops: readonly string[]): [number, string] | undefined {
  for (let end = 1; end <= text.length; end++) {
    const here = stops.filter((stop) => text.slice(0, end).endsWith(stop));
    if (here.length > 0) return [end, here.sort((a, b) => b.length - a.length)[0]!];
  }
  return undefined;
}

/** Longest proper beginning of a stop string that the text ends with. */
function longestBeginning(text: string, stops: readonly string[]): number {
  let longest = 0;
  for (const stop of stops) {
    for (let length = 1; length < stop.length; length++) {
      if (text.endsWith(stop.slice(0, length))) longest = Math.max(longest, length);
    }
  }
  return longest;
}

Deno.test("stop strings are found as by looking everywhere", () => {
  const rng = createRng(seedFrom(8));
  const random = (length: number) =>
    Array.from({ length }, () => "ab"[Math.floor(rng.next() * 2)]).join("");
  for (let round = 0; round < 2000; round++) {
    const stops = Array.from(
      { length: 1 + round % 4 },
      () => random(1 + Math.floor(rng.next() * 6)),
    );
    const text = random(20);
    const compiled = compileStops(stops);
    let state = startStops(compiled);
    let found: [number, string] | undefined;
    for (let end = 1; end <= text.length && !found; end++) {
      state = advanceStops(compiled, state, text.charCodeAt(end - 1));
      const stop = completedStop(compiled, state);
      if (stop) found = [end, stop.text];
      else assertEquals(heldBack(state), longestBeginning(text.slice(0, end), stops));
    }
    assertEquals(found, firstStop(text, stops));
  }
});

Deno.test("compileStops() refuses empty strings", () => {
  assertThrows(() => compileStops(["a", ""]), RangeError, "empty");
});
