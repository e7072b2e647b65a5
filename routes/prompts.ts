/** The `prompt` of a completion request -> token prompts. */
import type { CatalogEntry, TokenId } from "../runtime/mod.ts";
import { invalidValue } from "./errors.ts";
import { requireToken, requireVocab } from "./resolve.ts";
import type { CompletionRequest } from "./schema/completions.ts";

type WirePrompt = CompletionRequest["prompt"];

/**
 * Token ids per prompt. Text gets the begin-of-sequence token where the model has one; control
 * tokens written in it count as such, since a raw prompt has no other way to say them.
 *
 * @throws {ApiError} 400 for unknown tokens and prompts without any
 */
export function toPrompts(prompt: WirePrompt, entry: CatalogEntry): TokenId[][] {
  if (typeof prompt === "string") return [encode(prompt, entry, "prompt")];
  if (isTokens(prompt)) return [known(prompt, entry, "prompt")];
  return prompt.map((one, index) => {
    const param = `prompt.${index}`;
    return typeof one === "string" ? encode(one, entry, param) : known(one, entry, param);
  });
}

function isTokens(prompt: Exclude<WirePrompt, string>): prompt is TokenId[] {
  return typeof prompt[0] === "number";
}

function known(tokens: TokenId[], { model }: CatalogEntry, param: string): TokenId[] {
  tokens.forEach((token, index) => requireToken(token, model.vocab, `${param}.${index}`));
  return tokens;
}

function encode(text: string, entry: CatalogEntry, param: string): TokenId[] {
  const vocab = requireVocab(entry, param);
  let tokens: TokenId[];
  try {
    tokens = vocab.encode(text, { special: true, bos: true });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw invalidValue(param, error.message);
  }
  if (tokens.length === 0) throw invalidValue(param, "The prompt has no tokens");
  return tokens;
}
