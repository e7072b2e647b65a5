/** full: keeps everything. */
import * as z from "zod";
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
  params: z.strictObject({}),
  init: () => null,
  fork: () => null,
  plan: () => ({ state: null, edits: [] }),
};
