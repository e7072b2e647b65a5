/** A small vocabulary with a stop token and a plain chat template. */
import {
  type ChatOptions,
  type ChatTemplate,
  type EncodeOptions,
  type Message,
  TemplateError,
  type TokenId,
  type Vocab,
} from "../../runtime/mod.ts";

/** How to make a vocabulary. */
export interface FakeVocabOptions {
  /**
   * Text or bytes of the tokens 0, 1, ...; longest match wins when encoding.
   * @default the 256 single bytes
   */
  readonly pieces?: readonly (string | Uint8Array)[];
  /** Add `<s>` (begin of sequence) and the role tokens, and with them a template. @default true */
  readonly chat?: boolean;
}

const roles = ["system", "developer", "user", "assistant", "tool"] as const;

/**
 * Text pieces first, then the control token `<end>`, which stops a completion, then (with `chat`)
 * `<s>`, `<system>`, `<developer>`, `<user>`, `<assistant>`, `<tool>`.
 *
 * A chat is rendered as `<role>content<end>` per message, and `<assistant>` opens the answer.
 */
export function fakeVocab(options: FakeVocabOptions = {}): Vocab {
  const utf8 = new TextEncoder();
  const pieces = options.pieces ?? Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte));
  const texts = pieces.map((piece) => typeof piece === "string" ? utf8.encode(piece) : piece);
  const controls = ["<end>"];
  if (options.chat ?? true) controls.push("<s>", ...roles.map((role) => `<${role}>`));
  const controlIds = new Map(controls.map((name, i) => [name, texts.length + i]));
  const names = [
    ...pieces.map((piece) => typeof piece === "string" ? piece : `<0x${piece.toHex()}>`),
    ...controls,
  ];
  const control = (name: string): TokenId => controlIds.get(name)!;
  const size = names.length;

  const encodeText = (text: string): TokenId[] => longestMatches(utf8.encode(text), texts);
  function encode(text: string, { special = false, bos = false }: EncodeOptions = {}): TokenId[] {
    const ids = bos && controlIds.has("<s>") ? [control("<s>")] : [];
    const parts = special ? text.split(new RegExp(`(${controls.join("|")})`)) : [text];
    for (const part of parts) {
      const id = special ? controlIds.get(part) : undefined;
      ids.push(...id === undefined ? encodeText(part) : [id]);
    }
    return ids;
  }
  function bytes(token: TokenId): Uint8Array {
    if (!Number.isInteger(token) || token < 0 || token >= size) {
      throw new RangeError(`Token ${token} is outside the vocabulary of ${size}`);
    }
    return texts[token] ?? new Uint8Array();
  }

  return {
    size,
    fingerprint: JSON.stringify(names),
    bos: controlIds.get("<s>"),
    stopTokens: new Set([control("<end>")]),
    isSpecial: (token) => token >= texts.length && token < size,
    bytes,
    piece: (token) => names[token]!,
    encode,
    decode(tokens, { special = false } = {}) {
      const parts = tokens.flatMap((token) =>
        special && token >= texts.length ? [...utf8.encode(names[token])] : [...bytes(token)]
      );
      return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(parts));
    },
    chat: controlIds.has("<s>") ? chatTemplate(encodeText, control) : undefined,
  };
}

interface Part {
  readonly control?: string;
  readonly content?: string;
}

function chatTemplate(
  encodeText: (text: string) => TokenId[],
  control: (name: string) => TokenId,
): ChatTemplate {
  function parts(messages: readonly Message[], options: ChatOptions = {}): Part[] {
    const { addGenerationPrompt = true, continueFinalMessage = false } = options;
    const open = continueFinalMessage ? messages.length - 1 : -1;
    const out: Part[] = [{ control: "<s>" }];
    messages.forEach(({ role, content }, i) => {
      if (content === null) throw new TemplateError(`Message ${i} has no content`);
      out.push({ control: `<${role}>` }, { content });
      if (i !== open) out.push({ control: "<end>" });
    });
    if (addGenerationPrompt && !continueFinalMessage) out.push({ control: "<assistant>" });
    return out;
  }
  return {
    render: (messages, options) =>
      parts(messages, options).map(({ control, content }) => control ?? content).join(""),
    encode: (messages, options) =>
      parts(messages, options).flatMap((part) =>
        part.control === undefined ? encodeText(part.content!) : [control(part.control)]
      ),
  };
}

/** Greedy longest match. @throws {RangeError} if some bytes are in no piece */
function longestMatches(bytes: Uint8Array, pieces: readonly Uint8Array[]): TokenId[] {
  const ids: TokenId[] = [];
  for (let at = 0; at < bytes.length;) {
    let best = -1;
    pieces.forEach((piece, id) => {
      const longer = piece.length > (best < 0 ? 0 : pieces[best]!.length);
      if (longer && piece.every((byte, i) => byte === bytes[at + i])) best = id;
    });
    if (best < 0) throw new RangeError(`Byte ${bytes[at]} is in no piece of the vocabulary`);
    ids.push(best);
    at += pieces[best]!.length;
  }
  return ids;
}
