/** An evicting policy for tests: the first tokens and the most recent committed ones stay. */
import type { KvPolicy } from "../../runtime/kv/policy.ts";

/** How much stays. */
export interface WindowParams {
  readonly sinks: number;
  readonly recent: number;
}

interface WindowState extends WindowParams {
  readonly consulted: number;
}

/** Source: Xiao et al. 2023, https://arxiv.org/abs/2309.17453, with original positions. */
export const windowPolicy: KvPolicy<WindowState, WindowParams> = {
  name: "test-window",
  source: "https://arxiv.org/abs/2309.17453",
  lossless: false,
  granularity: "sequence",
  signals: [],
  params: {
    parse(value) {
      const { sinks = 2, recent = 6 } = value as Partial<WindowParams>;
      if (sinks + recent < 1) throw new RangeError("A window needs room for a token");
      return { sinks, recent };
    },
  },
  init: (_layout, { sinks, recent }) => ({ consulted: 0, sinks, recent }),
  fork: (old) => ({ ...old }),
  plan(old, view) {
    const { sinks, recent } = old;
    const { positions } = view.groups[0]!;
    const slots: number[] = [];
    positions.forEach((position, slot) => {
      if (position < sinks || position >= view.committed - recent) slots.push(slot);
    });
    const next = { ...old, consulted: old.consulted + 1 };
    if (slots.length === positions.length) return { state: next, edits: [] };
    return { state: next, edits: [{ op: "keep", group: 0, slots: Uint32Array.from(slots) }] };
  },
};
