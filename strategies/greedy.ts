/**
 * Takes the most likely token at every step, after bias, penalties and constraint; temperature and
 * filters have no effect. Ties go to the lower token id.
 *
 * Several choices are equal, so they are computed once and returned as often as asked for.
 *
 * Source: the arg max of the model's distribution; no paper.
 * Cost: one ask per token, one session.
 */
import * as z from "zod";
import { chunkOf, inLockstep, openBranches } from "./_branches.ts";
import { defineStrategy } from "./strategy.ts";

/** Greedy decoding. */
export const greedy = defineStrategy({
  name: "greedy",
  summary: "The most likely token at every step",
  source: "arg max of the model's distribution",
  streaming: "tokens",
  constrained: true,
  delegates: true,
  needs: { model: ["generate"] },
  constrainedNeeds: { model: ["sample", "edit"] },
  params: z.strictObject({}),
  sequences: () => 1,
  async *run(context) {
    const copies = Array.from({ length: context.choices }, (_, choice) => choice);
    let reason: "stop" | "length" = "length";
    const branches = openBranches(context, [{ ...context.sampling, temperature: 0 }]);
    for await (const [draw] of inLockstep(branches)) {
      const { drawn } = draw!;
      if (typeof drawn === "object") {
        for (const choice of copies) yield chunkOf(choice, [drawn], context);
      } else reason = drawn;
    }
    return { reasons: copies.map(() => reason) };
  },
});
