/** What a regular expression says. */
import type { CodePoints } from "./code_points.ts";

/** A parsed expression. Nesting is bounded by the parser, so walks may recurse. */
export type Expression =
  | { readonly kind: "set"; readonly set: CodePoints }
  | { readonly kind: "sequence"; readonly parts: readonly Expression[] }
  | { readonly kind: "choice"; readonly parts: readonly Expression[] }
  | {
    readonly kind: "repeat";
    readonly part: Expression;
    readonly min: number;
    /** Infinity for no bound. */
    readonly max: number;
  };
