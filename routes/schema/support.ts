/** Fields beyond the schema: known ones we cannot honour are refused, unknown ones are reported. */
import { invalidValue, unsupported } from "../errors.ts";
import { ignoredFields } from "./fields.ts";

/** Whether a value asks for nothing we do not do anyway. */
type Harmless = (value: unknown) => boolean;

const never: Harmless = () => false;
const is = (...values: readonly unknown[]): Harmless => (value) => values.includes(value);

/**
 * Fields of the OpenAI API and of common engines that we know and cannot honour, with the values
 * that change nothing. Silence about them is what users complain of most elsewhere.
 */
const unsupportedFields: ReadonlyMap<string, Harmless> = new Map<string, Harmless>([
  ["audio", never],
  ["modalities", (value) => Array.isArray(value) && value.length === 1 && value[0] === "text"],
  ["web_search_options", never],
  ["prediction", never],
  ["functions", never],
  ["function_call", never],
  ["reasoning_effort", is("none")],
  ["grammar", never],
  ["regex", never],
  ["ebnf", never],
  ["json_schema", never],
  ["guided_json", never],
  ["guided_regex", never],
  ["guided_choice", never],
  ["guided_grammar", never],
  ["min_tokens", is(0)],
  ["skip_special_tokens", is(true)],
  ["spaces_between_special_tokens", is(true)],
  ["include_stop_str_in_output", is(false)],
  ["priority", is(0)],
  ["logprobs_mode", is("raw", "raw_logprobs")],
  ["prompt_logprobs", never],
  ["allowed_token_ids", never],
  ["bad_words", (value) => Array.isArray(value) && value.length === 0],
  ["truncate_prompt_tokens", is(-1)],
  ["chat_template", never],
  ["documents", never],
  ["use_beam_search", is(false)],
  ["length_penalty", is(1)],
  ["early_stopping", is(false)],
  ["best_of", is(1)],
  ["echo", is(false)],
  ["suffix", is("")],
  ["repeat_penalty", is(1)],
  ["mirostat", is(0)],
  ["num_ctx", never],
  ["num_predict", never],
  ["think", is(false)],
  ["options", never],
]);

/** Ways out of the chosen strategy for callers who used another engine's field. */
const hints: ReadonlyMap<string, string> = new Map([
  ["use_beam_search", "; choose the strategy beam instead"],
  ["best_of", "; choose the strategy best-of-n instead"],
  ["repeat_penalty", "; the field here is repetition_penalty"],
  ["num_predict", "; the field here is max_tokens"],
  ...["grammar", "regex", "ebnf", "json_schema"].map(structuredHint),
  ...["guided_json", "guided_regex", "guided_choice", "guided_grammar"].map(structuredHint),
]);

function structuredHint(name: string): readonly [string, string] {
  return [name, "; use structured_outputs instead"];
}

/**
 * Goes through the fields of a body that its schema does not list.
 *
 * @param shape the schema's own fields
 * @param strict refuse unknown fields
 * @returns names of everything that was accepted without effect
 * @throws {ApiError} 400 `unsupported_parameter`
 */
export function checkFields(
  body: Readonly<Record<string, unknown>>,
  shape: Readonly<Record<string, unknown>>,
  strict: boolean,
): string[] {
  const ignored: string[] = [];
  for (const [name, value] of Object.entries(body)) {
    if (value === null || value === undefined) continue;
    if (Object.hasOwn(ignoredFields, name)) {
      ignored.push(name);
      continue;
    }
    if (Object.hasOwn(shape, name)) continue;
    const harmless = unsupportedFields.get(name);
    if (harmless?.(value)) continue;
    if (harmless) throw unsupported(name, `${name} is not supported${hints.get(name) ?? ""}`);
    if (strict) throw unsupported(name, `Unknown field ${JSON.stringify(name)}`);
    ignored.push(name);
  }
  return ignored;
}

/** Names as one header value: at most 32, anything unusual percent-encoded. */
export function ignoredHeader(names: readonly string[]): string {
  const shown = names.slice(0, 32).map((name) =>
    encodeURIComponent(name.slice(0, 64).toWellFormed())
  );
  return [...shown, ...(names.length > 32 ? ["..."] : [])].join(", ");
}

/** Template variables a request may set. Others could override what the gateway puts in. */
const templateVariables = new Set([
  "enable_thinking",
  "thinking",
  "reasoning_effort",
  "date_string",
]);

/** @throws {ApiError} for template variables outside the list, or values that are no scalars */
export function checkTemplateKwargs(kwargs: Readonly<Record<string, unknown>>): void {
  for (const [name, value] of Object.entries(kwargs)) {
    const param = `chat_template_kwargs.${name}`;
    if (!templateVariables.has(name)) {
      const known = [...templateVariables].join(", ");
      throw invalidValue(
        param,
        `Unknown template variable ${JSON.stringify(name)}; known: ${known}`,
      );
    }
    const scalar = value === null || ["string", "number", "boolean"].includes(typeof value);
    if (!scalar || (typeof value === "string" && value.length > 256)) {
      throw invalidValue(param, "Template variables must be short strings, numbers or booleans");
    }
  }
}
