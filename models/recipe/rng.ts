/** Seeded random numbers of the data generators: xorshift128, seeded through splitmix32. */
export interface TaskRng {
  /** Whole number in 0..n-1. */
  int(n: number): number;
  /** Whole number in low..high, both included. */
  between(low: number, high: number): number;
  pick<T>(items: readonly T[]): T;
  chance(probability: number): boolean;
  /** Fresh array of `count` different items in random order. */
  sample<T>(items: readonly T[], count: number): T[];
}

/** FNV-1a, 32 bits. Decides which surface values belong to the held-out split. */
export function hash32(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  }
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  return (h ^ (h >>> 13)) >>> 0;
}

export function taskRng(seed: number | string): TaskRng {
  let s = typeof seed === "string" ? hash32(seed) : seed >>> 0;
  const split = () => {
    s = (s + 0x9e3779b9) >>> 0;
    let z = Math.imul(s ^ (s >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return (z ^ (z >>> 16)) >>> 0;
  };
  let [x, y, z, w] = [split(), split(), split(), split() | 1];
  const next = () => {
    const t = x ^ (x << 11);
    [x, y, z] = [y, z, w];
    w = (w ^ (w >>> 19) ^ t ^ (t >>> 8)) >>> 0;
    return w / 2 ** 32;
  };
  const int = (n: number) => Math.floor(next() * n);
  return {
    int,
    between: (low, high) => low + int(high - low + 1),
    pick: (items) => at(items, int(items.length)),
    chance: (probability) => next() < probability,
    sample(items, count) {
      if (count > items.length) throw new RangeError(`only ${items.length} items to draw from`);
      const pool = [...items];
      for (let i = 0; i < count; i++) {
        const j = i + int(pool.length - i);
        const held = at(pool, i);
        pool[i] = at(pool, j);
        pool[j] = held;
      }
      return pool.slice(0, count);
    },
  };
}

function at<T>(items: readonly T[], index: number): T {
  if (index < 0 || index >= items.length) throw new RangeError("nothing to pick from");
  return items[index]!;
}
