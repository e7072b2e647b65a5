/** What a text must be, as requests name it: data that engines elsewhere can be told. */

/** A form of text. */
export type ConstraintSpec =
  | { readonly kind: "json_schema"; readonly schema: unknown; readonly allowsSpace: boolean }
  | { readonly kind: "regex"; readonly pattern: string }
  | { readonly kind: "choice"; readonly choices: readonly string[] }
  | { readonly kind: "grammar"; readonly grammar: string };

/** The kinds of form. */
export type ConstraintKind = ConstraintSpec["kind"];
