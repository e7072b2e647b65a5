/** Prompts as token ids. */
import { CapabilityError } from "./errors.ts";
import { type ChatOptions, isMessages, type Prompt, type TokenId, type Vocab } from "./model.ts";

const encoded = new WeakMap<Prompt, { vocab: Vocab; chat: ChatOptions; ids: readonly TokenId[] }>();

/**
 * Token ids of a prompt; chat messages go through the vocabulary's template. The last encoding of a
 * prompt object is remembered, so that several sessions on one prompt render it once.
 *
 * @throws {CapabilityError} if the prompt is a chat and the vocabulary has no template
 * @throws {TemplateError} if the template refuses the messages
 */
export function encodePrompt(
  prompt: Prompt,
  vocab: Vocab,
  options: { readonly model: string; readonly chat?: ChatOptions },
): readonly TokenId[] {
  if (!isMessages(prompt)) return prompt as readonly TokenId[];
  const chat = options.chat ?? {};
  const known = encoded.get(prompt);
  if (known?.vocab === vocab && known.chat === chat) return known.ids;
  if (!vocab.chat) throw new CapabilityError(options.model, ["chat template"]);
  const ids = vocab.chat.encode(prompt, chat);
  encoded.set(prompt, { vocab, chat, ids });
  return ids;
}
