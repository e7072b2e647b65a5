/** `X-Decoding-Strategy` and `X-KV-Policy`: one RFC 9651 item, a token with parameters. */
import { ParseError, parseItem, Token } from "structured-headers";
import { invalidValue } from "./errors.ts";

/** A name with parameters, as a header or a body gives it. */
export interface NamedParams {
  readonly name: string;
  readonly params: Readonly<Record<string, unknown>>;
}

/**
 * Parses such a header.
 *
 * Source: RFC 9651, sections 3.3 and 4.2.3. Tokens among the parameters become strings; byte
 * sequences, dates and display strings are refused, since no parameter has such a type.
 *
 * @param maxBytes longest value taken
 * @returns undefined if the header is absent
 * @throws {ApiError} 400 `invalid_value`, the header's name as `param`
 */
export function parseNamedParams(
  headers: Headers,
  header: string,
  maxBytes: number,
): NamedParams | undefined {
  const text = headers.get(header);
  if (text === null) return undefined;
  if (text.length > maxBytes) {
    throw invalidValue(header, `The header ${header} is longer than ${maxBytes} bytes`);
  }
  const [name, parameters] = parse(text, header);
  if (!(name instanceof Token)) {
    throw invalidValue(header, `The header ${header} must start with a name, e.g. beam;width=4`);
  }
  const params: Record<string, unknown> = Object.create(null);
  for (const [key, value] of parameters) params[key] = plain(value, key, header);
  return { name: name.toString(), params: { ...params } };
}

function parse(text: string, header: string): ReturnType<typeof parseItem> {
  try {
    return parseItem(text);
  } catch (error) {
    if (!(error instanceof ParseError)) throw error;
    throw invalidValue(header, `The header ${header} is not a structured field item (RFC 9651)`);
  }
}

function plain(value: unknown, key: string, header: string): string | number | boolean {
  if (value instanceof Token) return value.toString();
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") {
    return value;
  }
  throw invalidValue(
    header,
    `Parameter ${key} of the header ${header} must be a number, string, token or boolean`,
  );
}
