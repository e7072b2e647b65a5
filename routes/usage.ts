/** Usage and decoding metadata of a response. */
import type { Results } from "./generation.ts";
import type { Selection } from "./select.ts";

/** The `usage` object. Drawn tokens appear when they are more than the emitted ones. */
export function usageOf({ usage, runs }: Results, selection: Selection) {
  const { promptTokens, completionTokens, cachedTokens, drawnTokens } = usage;
  const own = {
    ...drawnTokens > completionTokens ? { tokens_drawn: drawnTokens } : {},
    ...selection.namesKv ? kvOf(runs, selection) : {},
  };
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
    ...Object.keys(own).length > 0 ? { decoding: own } : {},
  };
}

/**
 * What the KV cache of the request's first role held, added up over prompts: tokens kept (mean over
 * layers and heads, of the sequence computed last), most bytes at once, and bytes at the end as a share
 * of the full cache's.
 */
function kvOf(runs: Results["runs"], { strategy }: Selection) {
  const [role] = Object.keys(strategy.needs);
  const held = runs.flatMap(({ meters }) => meters[role ?? ""]?.kv ?? []);
  if (held.length === 0) return {};
  const sum = (pick: (kv: (typeof held)[number]) => number) =>
    held.reduce((total, kv) => total + pick(kv), 0);
  return {
    kv_tokens_kept: Math.round(sum((kv) => kv.tokensKept)),
    kv_bytes_peak: sum((kv) => kv.bytesPeak),
    kv_ratio: Number((sum((kv) => kv.bytes) / sum((kv) => kv.bytesFull)).toFixed(4)),
  };
}

/** The `decoding` object: how the text came about. Undefined unless the request asked for a trace. */
export function decodingOf(selection: Selection, results: Results) {
  const { strategy, source, models, kv, trace, parsed } = selection;
  if (trace === "none") return undefined;
  const runs = results.runs.map(({ metrics, choices, meters, steps, servedBy }) => ({
    metrics,
    choices,
    ...servedBy ? { served_by: servedBy } : {},
    meters: Object.fromEntries(
      Object.entries(meters).map(([role, meter]) => [role, {
        prompt_tokens: meter.promptTokens,
        cached_tokens: meter.cachedTokens,
        drawn_tokens: meter.drawnTokens,
        computed_tokens: meter.computedTokens,
        rows: meter.rows,
      }]),
    ),
    ...trace === "steps" ? { steps } : {},
  }));
  return {
    strategy: strategy.name,
    source,
    params: parsed,
    models: Object.fromEntries(Object.entries(models).map(([role, { id }]) => [role, id])),
    ...selection.entry.info.upstream ? {} : { kv_policy: kv?.name ?? "full" },
    // One prompt is the rule; its run stands here itself.
    ...runs.length === 1 ? runs[0] : { prompts: runs },
  };
}
