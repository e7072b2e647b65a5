/** Ways in which a small and a large model answer together. */
import type { Way } from "./_run.ts";

/** A way by its name in tables. */
export interface NamedWay extends Way {
  readonly label: string;
}

function ruled(
  rule: string,
  alpha: number,
  more: Readonly<Record<string, unknown>> = {},
): NamedWay {
  const params = { rule, alpha, ...more };
  return { label: `${rule} ${alpha}`, strategy: "speculative-cascade", params };
}

/** The first is what the others are held against; it asks the large model alone. */
export const together: readonly NamedWay[] = [
  { label: "large alone", strategy: "sample" },
  { label: "small alone", strategy: "speculative-cascade", params: { rule: "never" } },
  { label: "speculative", strategy: "speculative" },
  ruled("token-v3", 0.3),
  ruled("token-v3", 0.6),
  ruled("token-v3", 0.9),
  ruled("opt", 0.2),
  ruled("opt", 0.6),
  ruled("chow", 0.1),
  ruled("chow", 0.3),
  ruled("chow", 0.6),
  { ...ruled("chow", 0.1, { ahead: 16 }), label: "chow 0.1, ahead" },
  { ...ruled("chow", 0.6, { ahead: 16 }), label: "chow 0.6, ahead" },
  { label: "mix 0.5", strategy: "speculative-cascade", params: { rule: "mix" } },
];
