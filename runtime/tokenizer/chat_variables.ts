/** What a chat template gets to see of a request, and which of it the request wrote. */
import { TemplateError } from "../errors.ts";
import type { ChatOptions, Message } from "../model.ts";
import { reservedNames } from "./jinja_globals.ts";

/** Template variables: JSON values. */
export type Variables = Readonly<Record<string, unknown>>;

const MAX_DEPTH = 64;
const MAX_LIST = 64;
const MAX_TEXT = 4096;
/** Set by us, not by the request. */
const ownNames: ReadonlySet<string> = new Set([
  "messages",
  "tools",
  "add_generation_prompt",
  "bos_token",
  "eos_token",
]);
const identifier = /^[A-Za-z_][A-Za-z0-9_]*$/;

/**
 * The variables of one request.
 *
 * @param known variables the template mentions; others are refused rather than ignored
 * @throws {TemplateError} if a template argument is reserved, unknown or not a small JSON value, or
 * something is nested more than 64 levels deep
 */
export function chatVariables(
  messages: readonly Message[],
  options: ChatOptions,
  known: { readonly names: ReadonlySet<string>; readonly developer: boolean },
): Variables {
  const tools = options.tools ?? null;
  requireDepth(tools, MAX_DEPTH);
  for (const [name, value] of Object.entries(options.kwargs ?? {})) {
    requireArgument(name, value, known.names);
  }
  return {
    ...options.kwargs,
    messages: messages.map((message) => templateMessage(message, known.developer)),
    tools,
    "add_generation_prompt": options.addGenerationPrompt ?? !options.continueFinalMessage,
  };
}

function requireArgument(name: string, value: unknown, known: ReadonlySet<string>): void {
  const quoted = JSON.stringify(name.slice(0, 100));
  if (ownNames.has(name) || reservedNames.has(name)) {
    throw new TemplateError(`Cannot set template argument ${quoted}: the name is reserved`);
  }
  if (!known.has(name)) {
    throw new TemplateError(`Cannot set template argument ${quoted}: the template has no such one`);
  }
  const small = Array.isArray(value)
    ? value.length <= MAX_LIST && value.every(isScalar)
    : isScalar(value);
  if (!small) {
    throw new TemplateError(
      `Cannot set template argument ${quoted}: expected a scalar or a list of at most ${MAX_LIST} scalars`,
    );
  }
}

function isScalar(value: unknown): boolean {
  return value === null || typeof value === "boolean" || Number.isFinite(value) ||
    (typeof value === "string" && value.length <= MAX_TEXT);
}

function templateMessage(message: Message, developer: boolean): Variables {
  const { role, content, name, toolCalls, toolCallId } = message;
  if (!/^[a-z]+$/.test(role)) throw new TemplateError(`Unknown role ${JSON.stringify(role)}`);
  return {
    role: role === "developer" && !developer ? "system" : role,
    content,
    ...(name === undefined ? {} : { name }),
    ...(toolCalls === undefined ? {} : { "tool_calls": toolCalls.map(withParsedArguments) }),
    ...(toolCallId === undefined ? {} : { "tool_call_id": toolCallId }),
  };
}

/** Templates expect the arguments as an object; the API carries them as JSON text. */
function withParsedArguments(call: unknown): unknown {
  requireDepth(call, MAX_DEPTH);
  if (!isObject(call) || !isObject(call.function)) return call;
  const text = call.function.arguments;
  if (typeof text !== "string") return call;
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return call; // whatever the model wrote is passed on as it is
  }
  if (!isObject(parsed)) return call;
  requireDepth(parsed, MAX_DEPTH);
  return { ...call, function: { ...call.function, arguments: parsed } };
}

/** Recursion is safe: it ends at the limit. */
function requireDepth(value: unknown, left: number): void {
  if (typeof value !== "object" || value === null) return;
  if (left === 0) throw new TemplateError(`Cannot render values nested over ${MAX_DEPTH} levels`);
  for (const item of Object.values(value)) requireDepth(item, left - 1);
}

/** Every string the request wrote. */
export function requestTexts(variables: Variables): readonly string[] {
  const texts: string[] = [];
  mapRequestTexts(variables, (text) => {
    texts.push(text);
    return text;
  });
  return texts;
}

/** The variables with every string the request wrote replaced. Roles are not the request's. */
export function mapRequestTexts(variables: Variables, map: (text: string) => string): Variables {
  const { messages, ...rest } = variables;
  const mapped = (Array.isArray(messages) ? messages : []).map((message: Variables) => {
    const { role, ...fields } = message;
    return { role, ...mapObject(fields, map) };
  });
  const others = Object.entries(rest).map(([name, value]) =>
    [name, name === "bos_token" || name === "eos_token" ? value : mapTexts(value, map)] as const
  );
  return { ...Object.fromEntries(others), messages: mapped };
}

function mapTexts(value: unknown, map: (text: string) => string): unknown {
  if (typeof value === "string") return map(value);
  if (Array.isArray(value)) return value.map((item) => mapTexts(item, map));
  return isObject(value) ? mapObject(value, map) : value;
}

/** Keys that templates may name as a field stay as they are. */
function mapObject(value: Variables, map: (text: string) => string): Variables {
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [
      identifier.test(key) ? key : map(key),
      mapTexts(item, map),
    ]),
  );
}

function isObject(value: unknown): value is Variables {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
