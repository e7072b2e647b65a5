/**
 * Chat templates: messages to text, and to tokens without letting message contents steer the model.
 *
 * Source: the `apply_chat_template` conventions of Hugging Face transformers (variables `messages`,
 * `tools`, `add_generation_prompt`, `bos_token`, `eos_token`; `continue_final_message`).
 * Differs: control tokens are recognised only where the template wrote them, see chat_cover.ts; the
 * role "developer" is given to templates that do not know it as "system"; tool-call arguments that
 * are JSON objects are given parsed; arguments unknown to the template are refused.
 */
import { TemplateError } from "../errors.ts";
import type { ChatOptions, ChatTemplate, Message } from "../model.ts";
import { createCover } from "./chat_cover.ts";
import { chatVariables, mapRequestTexts, requestTexts, type Variables } from "./chat_variables.ts";
import type { Encode } from "./encoder.ts";
import { compileJinja } from "./jinja.ts";

/** What {@link createChatTemplate} needs. */
export interface ChatTemplateOptions {
  /** Jinja source. */
  readonly template: string;
  /** Text of the begin-of-sequence token, or "". */
  readonly bos: string;
  /** Text of the end-of-sequence token, or "". */
  readonly eos: string;
  /** Texts of all tokens that only the template may write. */
  readonly controls: readonly string[];
  /** Those among them that are never taken from a request, whatever the template does with it. */
  readonly special: readonly string[];
  readonly encode: Encode;
  /** File name for messages. */
  readonly source: string;
}

/** Ends a final message that is to be continued. Noncharacters are not for interchange. */
const openEnd = "\ufdd0";

/**
 * A chat template over a tokenizer.
 *
 * @throws {FormatError} if the template is malformed or too long
 */
export function createChatTemplate(options: ChatTemplateOptions): ChatTemplate {
  const { template, source, bos, eos } = options;
  const jinja = compileJinja(template, source);
  const known = { names: jinja.names, developer: template.includes("developer") };

  const prepare = (messages: readonly Message[], chat: ChatOptions) => {
    const open = chat.continueFinalMessage ?? false;
    if (open && chat.addGenerationPrompt) {
      throw new TemplateError("Cannot both continue the final message and open another one");
    }
    const variables = {
      ...chatVariables(open ? withOpenEnd(messages) : messages, chat, known),
      "bos_token": bos,
      "eos_token": eos,
    };
    const run = (values: Variables): string => {
      const text = jinja.render(values);
      return open ? cutAtOpenEnd(text) : text;
    };
    return { variables, run };
  };
  return {
    render(messages, chat = {}) {
      const { variables, run } = prepare(messages, chat);
      return run(variables);
    },
    encode(messages, chat = {}) {
      const { variables, run } = prepare(messages, chat);
      const text = run(variables);
      return options.encode(text, guardOf(text, run, variables, jinja.inspected, options));
    },
  };
}

/**
 * The rendered text with the request's characters covered.
 *
 * A template that looks into contents ("does it hold `</think>`?") must see there what it looks for,
 * so a cover counts only if the template makes the same text with it. Three are tried: all
 * characters; all but the strings the template looks for, unless that left a special token open;
 * the same for punctuation only.
 *
 * @throws {TemplateError} if the template makes another text each time
 */
function guardOf(
  text: string,
  run: (variables: Variables) => string,
  variables: Variables,
  inspected: readonly string[],
  { template, controls, special }: ChatTemplateOptions,
): string {
  const used = [text, template, ...requestTexts(variables)];
  const harmless = inspected.filter((literal) => !special.some((token) => literal.includes(token)));
  for (
    const { keep, punctuation } of [
      { keep: [], punctuation: false },
      { keep: harmless, punctuation: false },
      { keep: harmless, punctuation: true },
    ]
  ) {
    const { cover, uncover } = createCover(controls, used, punctuation);
    if (special.some((token) => cover(token, []) === token)) continue;
    const covered = mapRequestTexts(variables, (part) => {
      const open = cover(part, keep);
      return special.some((token) => open.includes(token)) ? cover(part, []) : open;
    });
    const guard = tryRun(run, covered);
    if (guard !== undefined && uncover(guard) === text) return guard;
  }
  throw new TemplateError("The chat template treats control tokens in messages in a special way");
}

/** Undefined if the template refuses: it saw something else than the request wrote. */
function tryRun(run: (variables: Variables) => string, variables: Variables): string | undefined {
  try {
    return run(variables);
  } catch (error) {
    if (error instanceof TemplateError) return undefined;
    throw error;
  }
}

function withOpenEnd(messages: readonly Message[]): readonly Message[] {
  const last = messages.at(-1);
  if (!last || last.content === null) {
    throw new TemplateError("Cannot continue the final message: it has no content");
  }
  if (messages.some((message) => message.content?.includes(openEnd))) {
    throw new TemplateError("Cannot continue a message with the noncharacter U+FDD0");
  }
  // The space shows whether the template trims contents.
  return [...messages.slice(0, -1), { ...last, content: `${last.content}${openEnd} ` }];
}

function cutAtOpenEnd(text: string): string {
  const end = text.lastIndexOf(openEnd);
  if (end < 0) {
    throw new TemplateError("Cannot continue the final message: the chat template leaves it out");
  }
  const before = text.slice(0, end);
  return text[end + 1] === " " ? before : before.trimEnd();
}
