/** full: keeps everything. */
import type { KvPolicy } from "../policy.ts";

/** The whole cache, as computed. */
export const full: KvPolicy<null, Readonly<Record<string, never>>> = {
  name: "full",
  source: "https://arxiv.org/abs/1706.03762",
  summary: "The whole cache, as computed",
  family: "full",
  lossless: true,
  granularity: "sequence",
  signals: [],
  params: {
    parse(value) {
      const keys = Object.keys(value ?? {});
      if (keys.length > 0) {
        throw new RangeError(`KV policy "full" takes no parameters, got ${keys.join(", ")}`);
      }
      return {};
    },
  },
  init: () => null,
  fork: () => null,
  plan: () => ({ state: null, edits: [] }),
};
