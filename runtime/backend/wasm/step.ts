/** What every op of the WebAssembly backend works with. */
import type { Heap } from "./heap.ts";
import type { Kernels } from "./kernels/mod.ts";
import type { Team } from "./team.ts";
import type { Scope } from "./tensor.ts";

/** One backend's memory, functions, running step and threads. */
export interface Step {
  readonly heap: Heap;
  readonly kernels: Kernels;
  /** Whether the kernels use relaxed SIMD. */
  readonly relaxed: boolean;
  readonly scope: Scope;
  readonly team: Team;
  /** Multiplications from which on an op is shared by threads. */
  readonly sharedWork: number;
}

/** `compute(key)` once per step and `kind`. */
export function once<K extends object, V>(
  { scope }: Step,
  kind: string,
  key: K,
  compute: (key: K) => V,
): V {
  let byKey = scope.shared.get(kind);
  if (byKey === undefined) scope.shared.set(kind, byKey = new Map<object, unknown>());
  let value = byKey.get(key) as V | undefined;
  if (value === undefined) byKey.set(key, value = compute(key));
  return value;
}
