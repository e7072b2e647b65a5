/** What a grammar says. */
import type { CodePoints } from "../regex/code_points.ts";

/** A parsed body. Nesting is bounded by the parser, so walks may recurse. */
export type Body =
  | { readonly kind: "set"; readonly set: CodePoints }
  | { readonly kind: "rule"; readonly name: string; readonly offset: number }
  | { readonly kind: "sequence"; readonly parts: readonly Body[] }
  | { readonly kind: "choice"; readonly parts: readonly Body[] }
  | {
    readonly kind: "repeat";
    readonly part: Body;
    readonly min: number;
    /** Infinity for no bound. */
    readonly max: number;
  };

/** Rules by name; the text is a `root`. */
export type Rules = ReadonlyMap<string, Body>;
