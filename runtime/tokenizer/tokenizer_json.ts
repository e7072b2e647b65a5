/**
 * Vocabularies from `tokenizer.json` and the small files beside it.
 *
 * Source: the Hugging Face tokenizers library (0.23) and transformers' `tokenizer_config.json`.
 * Differs: control tokens in text stay text unless asked for; a merge that would make one is left
 * out; bytes that are not UTF-8 decode as the Encoding Standard says, one U+FFFD per malformed
 * sequence; added tokens decode to their own text.
 */
import { FormatError } from "../errors.ts";
import { parseJson } from "../formats/json.ts";
import type { TokenId, Vocab } from "../model.ts";
import { type AddedToken } from "./added_tokens.ts";
import { bytesOfPiece, byteToCharacter, createByteLevelEncoder } from "./byte_level.ts";
import { toUtf8 } from "./bytes.ts";
import { byteOfPiece, bytePiece, createCharLevelEncoder, spaceMark } from "./char_level.ts";
import { createEncoder, type EncoderParts } from "./encoder.ts";
import { type Fields, fieldsOf, quote } from "./json_fields.ts";
import { contentsOf, mergesByPair, piecesById, requireAdded, splitMerge } from "./pieces.ts";
import { readAddedTokens, readSettings, type Settings } from "./tokenizer_json_settings.ts";
import {
  type Decoder,
  type PreTokenizer,
  readDecoder,
  readNormalizer,
  readPostProcessor,
  readPreTokenizer,
} from "./tokenizer_json_steps.ts";
import { createVocab } from "./vocab.ts";

/** The texts of the files of a model folder. */
export interface TokenizerFiles {
  /** tokenizer.json */
  readonly tokenizer: string;
  /** tokenizer_config.json */
  readonly config?: string | undefined;
  /** generation_config.json; its end-of-sequence ids are used */
  readonly generation?: string | undefined;
  /** chat_template.jinja; goes before a template in tokenizer_config.json */
  readonly chatTemplate?: string | undefined;
}

/** How to read them. */
export interface TokenizerJsonOptions {
  /** Number of ids the model has; ids beyond the file's are unused. @default as the file has */
  readonly size?: number | undefined;
}

const source = "tokenizer.json";

/**
 * Reads a tokenizer of type BPE, byte-level or with byte fallback.
 *
 * @throws {FormatError} on anything malformed or not supported, naming it
 */
export function readTokenizerJson(
  files: TokenizerFiles,
  options: TokenizerJsonOptions = {},
): Vocab {
  const root = fieldsOf(parseJson(files.tokenizer, { source, maxDepth: 32 }), "", source);
  const model = requireBpe(root);
  const ids = readIds(model);
  const steps = {
    preTokenizer: readPreTokenizer(root.object("pre_tokenizer")),
    decoder: readDecoder(root.object("decoder")),
  };
  const added = readAddedTokens(root, ids);
  const settings = readSettings(files, {
    added,
    ids,
    templateBos: readPostProcessor(root.object("post_processor")),
  });
  const all = new Map([...ids, ...settings.added.map(({ content, id }) => [content, id] as const)]);
  const pieces = padded(piecesById(all, all.size, source), options.size);
  const special = new Set(settings.special);
  for (let id = all.size; id < pieces.length; id++) special.add(id);
  settings.added.forEach((token) => requireAdded(token, source));
  return createVocab({
    ...settings,
    pieces,
    special,
    contents: contentsOf(pieces, special, contentReader(steps, settings.added)),
    controls: settings.added.filter((token) => token.control).map((token) => token.content),
    encode: createEncoder({
      ...splitAdded(settings),
      normalize: readNormalizer(root.object("normalizer")),
      stretch: readStretch(model, ids, settings, steps),
    }),
    spacePrefix: steps.decoder.stripsSpace,
  });
}

interface Steps {
  readonly preTokenizer: PreTokenizer;
  readonly decoder: Decoder;
}

function requireBpe(root: Fields): Fields {
  const model = root.object("model");
  if (!model) throw root.error('"model" is missing');
  const type = model.string("type") ?? "BPE";
  if (type !== "BPE") throw model.error(`the type ${quote(type)} is not supported, only "BPE"`);
  for (const key of ["continuing_subword_prefix", "end_of_word_suffix"]) {
    if (model.string(key)) throw model.error(`${quote(key)} is not supported`);
  }
  if (model.number("dropout")) throw model.error('"dropout" is not supported');
  return model;
}

function readIds(model: Fields): Map<string, TokenId> {
  const vocab = model.map("vocab");
  if (!vocab) throw model.error('"vocab" is missing');
  const ids = new Map<string, TokenId>();
  for (const [piece, id] of vocab) {
    if (typeof id !== "number") throw model.error(`the id of piece ${quote(piece)} is no number`);
    ids.set(piece, id);
  }
  return ids;
}

function readMerges(
  model: Fields,
  ids: ReadonlyMap<string, TokenId>,
): readonly (readonly [string, string])[] {
  return (model.list("merges") ?? []).map((merge, rank) => {
    if (typeof merge === "string") return splitMerge(merge, rank, ids, source);
    const [left, right, ...rest] = Array.isArray(merge) ? merge : [];
    if (typeof left === "string" && typeof right === "string" && rest.length === 0) {
      return [left, right];
    }
    throw model.error(`merge ${rank} is not a pair of pieces`);
  });
}

/** The encoder of stretches between added tokens. */
function readStretch(
  model: Fields,
  ids: ReadonlyMap<string, TokenId>,
  settings: Settings,
  { preTokenizer }: Steps,
): EncoderParts["stretch"] {
  const isControl = (id: TokenId) => settings.special.has(id);
  const merges = mergesByPair(readMerges(model, ids), ids, isControl, source);
  const word = preTokenizer.byteLevel
    ? createByteLevelEncoder({
      ids: new Map([...ids].filter(([piece, id]) => piece.length === 1 || !isControl(id))),
      merges,
      ignoreMerges: model.boolean("ignore_merges") ?? false,
      source,
    })
    : createCharLevelEncoder({
      characters: new Map([...ids].filter(([piece]) => isOneCharacter(piece))),
      byteIds: model.boolean("byte_fallback") ? byteIds(ids) : undefined,
      unknown: unknownId(model, ids),
      fuseUnknown: model.boolean("fuse_unk") ?? false,
      merges,
      firstVirtual: Infinity,
      virtual: [],
      source,
    });
  return (text, first, out) => {
    for (const part of preTokenizer.split(text, first)) word(part, out);
  };
}

function isOneCharacter(piece: string): boolean {
  return piece.length === 1 || (piece.length === 2 && piece.codePointAt(0)! > 0xffff);
}

function byteIds(ids: ReadonlyMap<string, TokenId>): Int32Array {
  return Int32Array.from(byteToCharacter, (_, byte) => {
    const id = ids.get(bytePiece(byte));
    if (id === undefined) throw new FormatError(`no piece ${bytePiece(byte)}`, { source });
    return id;
  });
}

function unknownId(model: Fields, ids: ReadonlyMap<string, TokenId>): TokenId | undefined {
  const piece = model.string("unk_token");
  if (piece === undefined) return undefined;
  const id = ids.get(piece);
  if (id === undefined) throw model.error(`"unk_token" ${quote(piece)} is not in the vocabulary`);
  return id;
}

function contentReader({ preTokenizer, decoder }: Steps, added: readonly AddedToken[]) {
  const own = new Map(added.map((token) => [token.id, token.content]));
  if (preTokenizer.byteLevel || decoder.byteLevel) {
    return (piece: string, id: TokenId) => own.has(id) ? undefined : bytesOfPiece(piece);
  }
  return (piece: string) => {
    const byte = decoder.byteFallback ? byteOfPiece(piece) : undefined;
    return byte === undefined ? toUtf8(piece.replaceAll(spaceMark, " ")) : Uint8Array.of(byte);
  };
}

function splitAdded({ added, normalized }: Settings) {
  return {
    added: added.filter((token) => !normalized.has(token.id)),
    addedNormalized: added.filter((token) => normalized.has(token.id)),
  };
}

function padded(pieces: readonly string[], size: number | undefined): readonly string[] {
  if (size === undefined || size === pieces.length) return pieces;
  if (size < pieces.length) {
    throw new FormatError(`${pieces.length} pieces, but the model has ${size} ids`, { source });
  }
  const unused = Array.from({ length: size - pieces.length }, (_, i) => `[unused${i}]`);
  return [...pieces, ...unused];
}
