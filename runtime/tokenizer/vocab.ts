/** A {@link Vocab} from what the readers of tokenizer.json and GGUF find out. */
import type { EncodeOptions, TokenId, Vocab } from "../model.ts";
import { createSha256 } from "../sha256.ts";
import { concatBytes, fromUtf8, toUtf8 } from "./bytes.ts";
import { type ChatTemplateOptions, createChatTemplate } from "./chat_template.ts";
import type { Encode } from "./encoder.ts";

/** What is known about a vocabulary. Arrays are indexed by token id. */
export interface VocabParts {
  /** Pieces as the vocabulary writes them. */
  readonly pieces: readonly string[];
  /** Bytes each token adds to the text; empty for special tokens. */
  readonly contents: readonly Uint8Array[];
  /** Tokens that add no text. */
  readonly special: ReadonlySet<TokenId>;
  /** Texts of tokens that only templates may write: all special ones and some others. */
  readonly controls: readonly string[];
  readonly bos: TokenId | undefined;
  /** Whether `encode(text, { bos: true })` puts it first. */
  readonly addsBos: boolean;
  readonly stopTokens: ReadonlySet<TokenId>;
  readonly encode: Encode;
  /** Whether encoding puts a space before the text, which decoding takes away again. */
  readonly spacePrefix: boolean;
  readonly chat: Pick<ChatTemplateOptions, "template" | "eos" | "source"> | undefined;
}

/** Joins the parts. */
export function createVocab(parts: VocabParts): Vocab {
  const { pieces, special } = parts;
  const size = pieces.length;
  const offsets = new Uint32Array(size + 1);
  parts.contents.forEach((content, id) => offsets[id + 1] = offsets[id]! + content.length);
  const contents = concatBytes(parts.contents);
  let fingerprint: string | undefined;

  const check = (token: TokenId): void => {
    if (!Number.isInteger(token) || token < 0 || token >= size) {
      throw new RangeError(`Token ${token} is outside the vocabulary of ${size}`);
    }
  };
  const view = (token: TokenId): Uint8Array => {
    check(token);
    return contents.subarray(offsets[token], offsets[token + 1]);
  };
  const piece = (token: TokenId): string => {
    check(token);
    return pieces[token]!;
  };
  const shown = (token: TokenId, withSpecial: boolean): Uint8Array =>
    withSpecial && special.has(token) ? toUtf8(piece(token)) : view(token);
  const specialTexts = new Set([...special].map((token) => pieces[token]!));
  const chat = parts.chat && createChatTemplate({
    ...parts.chat,
    bos: parts.bos === undefined ? "" : piece(parts.bos),
    controls: parts.controls,
    special: parts.controls.filter((control) => specialTexts.has(control)),
    encode: parts.encode,
  });
  return {
    size,
    get fingerprint() {
      return fingerprint ??= hashOf(pieces.map((_, id) => ({
        special: special.has(id),
        bytes: shown(id, true),
      })));
    },
    bos: parts.bos,
    stopTokens: parts.stopTokens,
    isSpecial: (token) => special.has(token),
    bytes: (token) => view(token).slice(),
    piece,
    encode(text: string, options: EncodeOptions = {}) {
      const ids = parts.encode(text, options.special ? text : undefined);
      if (options.bos && parts.addsBos && parts.bos !== undefined) ids.unshift(parts.bos);
      return ids;
    },
    decode(tokens, options = {}) {
      const bytes = tokens.map((token) => shown(token, options.special ?? false));
      const text = fromUtf8(concatBytes(bytes));
      return parts.spacePrefix && text.startsWith(" ") ? text.slice(1) : text;
    },
    chat,
  };
}

/** SHA-256 over what every id means, whatever notation the file uses for its pieces. */
function hashOf(meanings: readonly { readonly special: boolean; readonly bytes: Uint8Array }[]) {
  const records = meanings.map(({ special, bytes }) => {
    const record = new Uint8Array(5 + bytes.length);
    new DataView(record.buffer).setUint32(0, bytes.length, true);
    record[4] = special ? 1 : 0;
    record.set(bytes, 5);
    return record;
  });
  return createSha256().update(concatBytes(records)).hex();
}
