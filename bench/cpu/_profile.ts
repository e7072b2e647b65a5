/** Where a step's time goes: a backend whose ops can be timed by name. */
import type { Backend, Ops, Tensor } from "../../runtime/backend/backend.ts";

/** Milliseconds by op. */
export type Profile = Readonly<Record<string, number>>;

/** A backend like the one given, and the switch. */
export interface ProfiledBackend {
  readonly backend: Backend;
  /** Times ops from now on. */
  start(): void;
  /** Stops timing; what was spent in each op. */
  end(): Profile;
}

/** @param vocab rows of the output layer, which counts as an op of its own */
export function profiled(backend: Backend, vocab: number): ProfiledBackend {
  let times: Map<string, number> | undefined;
  const timed = (ops: Ops): Ops => {
    const entries = Object.entries(ops).map(([name, op]) => {
      if (name === "scoped") return [name, op];
      const run = (...args: unknown[]): unknown => {
        const start = performance.now();
        const result = (op as (...args: unknown[]) => unknown)(...args);
        const label = name === "linear" && isOutput(args[1], vocab) ? "outputLayer" : name;
        times?.set(label, (times.get(label) ?? 0) + performance.now() - start);
        return result;
      };
      return [name, run];
    });
    return Object.fromEntries(entries) as Ops;
  };
  return {
    backend: {
      ...backend,
      record: (build) => backend.record((ops) => build(times === undefined ? ops : timed(ops))),
    },
    start: () => void (times = new Map()),
    end() {
      const found = Object.fromEntries(times ?? []);
      times = undefined;
      return found;
    },
  };
}

function isOutput(weight: unknown, vocab: number): boolean {
  return (weight as Tensor).shape[0] === vocab;
}
