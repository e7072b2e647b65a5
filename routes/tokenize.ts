/** `POST /tokenize` and `POST /detokenize`. */
import { type CatalogEntry, encodePrompt, type TokenId } from "../runtime/mod.ts";
import { requireModel } from "./auth.ts";
import { readJsonBody } from "./body.ts";
import { resolveChat } from "./chat_completions.ts";
import { invalidValue, missing } from "./errors.ts";
import { required, requireToken, requireVocab } from "./resolve.ts";
import { findModel } from "./roles.ts";
import { toMessages } from "./schema/messages.ts";
import { checkFields } from "./schema/support.ts";
import { validate } from "./schema/validate.ts";
import type { AppContext, Services } from "./services.ts";
import type { RequestState } from "./state.ts";

/** Token ids of a text or a chat. */
export async function tokenize(c: AppContext, services: Services): Promise<Response> {
  const { schemas, deps } = services;
  const state = c.get("state");
  const raw = await readJsonBody(c.req.raw, deps.limits, deps.clock);
  const body = validate(schemas.tokenize, raw);
  state.ignored = checkFields(raw, schemas.tokenize.shape, deps.strictFields ?? false);
  const entry = entryOf(services, state, body.model);
  const tokens = tokensOf(body, entry);
  const { vocab } = entry.model;
  return Response.json({
    count: tokens.length,
    max_model_len: entry.model.contextLength,
    tokens,
    ...body.return_token_strs ? { token_strs: tokens.map((token) => vocab!.piece(token)) } : {},
  });
}

function tokensOf(
  body: ReturnType<Services["schemas"]["tokenize"]["parse"]>,
  entry: CatalogEntry,
): readonly TokenId[] {
  const { prompt, messages } = body;
  const vocab = requireVocab(entry, "model");
  if (messages) {
    if (typeof prompt === "string") {
      throw invalidValue("messages", "prompt and messages exclude each other");
    }
    const chat = toMessages(messages);
    return encodePrompt(chat, vocab, { model: entry.info.id, chat: resolveChat(body, chat) });
  }
  if (typeof prompt !== "string") throw missing("prompt", "Missing prompt or messages");
  try {
    return vocab.encode(prompt, {
      special: body.parse_special ?? true,
      bos: body.add_special_tokens ?? true,
    });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw invalidValue("prompt", error.message);
  }
}

/** Text of token ids. */
export async function detokenize(c: AppContext, services: Services): Promise<Response> {
  const { schemas, deps } = services;
  const state = c.get("state");
  const raw = await readJsonBody(c.req.raw, deps.limits, deps.clock);
  const body = validate(schemas.detokenize, raw);
  state.ignored = checkFields(raw, schemas.detokenize.shape, deps.strictFields ?? false);
  const entry = entryOf(services, state, body.model);
  const vocab = requireVocab(entry, "model");
  body.tokens.forEach((token, index) => requireToken(token, vocab, `tokens.${index}`));
  const special = !(body.skip_special_tokens ?? false);
  return Response.json({ prompt: vocab.decode(body.tokens, { special }) });
}

/** The named model, or the first one. */
function entryOf(
  { deps }: Services,
  state: RequestState,
  name: string | null | undefined,
): CatalogEntry {
  const first = name ?? required(deps.catalog.list()[0]?.id, "model");
  const { entry } = findModel(deps, first);
  state.model = entry.info.id;
  state.servedBy = entry.info.servedBy;
  requireModel(state.caller, first, "model");
  return entry;
}
