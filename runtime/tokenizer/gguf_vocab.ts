/**
 * Vocabularies from GGUF metadata.
 *
 * Source: GGUF specification, "Tokenizer"; llama.cpp `llama-vocab.cpp`.
 * Differs: control, byte and unused pieces are never made by merging (llama.cpp looks merged texts
 * up among all pieces, so that plain "<s>" could become the token); names of pre-tokenizers that are
 * not known are refused instead of replaced by a default.
 */
import { FormatError } from "../errors.ts";
import { quote } from "../formats/json.ts";
import type { TokenId, Vocab } from "../model.ts";
import type { AddedToken } from "./added_tokens.ts";
import { bytesOfPiece, createByteLevelEncoder } from "./byte_level.ts";
import { toUtf8 } from "./bytes.ts";
import { byteOfPiece, spaceMark } from "./char_level.ts";
import { createEncoder, type EncoderParts } from "./encoder.ts";
import {
  contentsOf,
  knownStopPieces,
  looksLikeControl,
  mergesByPair,
  requireAdded,
  requirePiece,
  splitMerge,
} from "./pieces.ts";
import { splitByGgufName } from "./pretokenize.ts";
import { createSpmEncoder } from "./spm.ts";
import { createVocab } from "./vocab.ts";

/** The look-up that a GGUF reader offers; absent keys are undefined, wrong types throw. */
export interface MetadataLookup {
  string(key: string): string | undefined;
  number(key: string): number | undefined;
  boolean(key: string): boolean | undefined;
  strings(key: string): readonly string[] | undefined;
  numbers(key: string): readonly number[] | undefined;
}

/** Values of `tokenizer.ggml.token_type`. */
export const tokenType = {
  normal: 1,
  unknown: 2,
  control: 3,
  userDefined: 4,
  unused: 5,
  byte: 6,
} as const;

const source = "GGUF tokenizer";
const prefix = "tokenizer.ggml.";

interface Pieces {
  readonly pieces: readonly string[];
  /** One per piece, see {@link tokenType}. */
  readonly types: readonly number[];
  /** Ordinary pieces only. */
  readonly ids: ReadonlyMap<string, TokenId>;
  readonly special: ReadonlySet<TokenId>;
}

/**
 * Reads the tokenizer of a GGUF file: byte-level BPE ("gpt2") or SentencePiece BPE ("llama").
 *
 * @throws {FormatError} on anything malformed or not supported, naming it
 */
export function readGgufVocab(metadata: MetadataLookup): Vocab {
  const ids = readSpecialIds(metadata);
  const read = readPieces(metadata, ids.stopTokens, ids.bos);
  const { pieces, types, special } = read;
  const added = addedTokens(read, metadata);
  const controlIds = added.filter((token) => token.control).map((token) => token.id);
  const model = metadata.string(`${prefix}model`);
  const isSpm = model === "llama";
  const beginsWithBos = isSpm || isLlama3(metadata);
  if (!isSpm && model !== "gpt2") {
    throw fail(`the tokenizer model ${quote(String(model))} is not supported`);
  }
  const spacePrefix = isSpm && (metadata.boolean(`${prefix}add_space_prefix`) ?? true);
  const template = metadata.string("tokenizer.chat_template");
  const eos = metadata.number(`${prefix}eos_token_id`);
  return createVocab({
    pieces,
    special,
    contents: contentsOf(pieces, special, isSpm ? spmContent(types) : byteLevelContent(types)),
    controls: controlIds.map((id) => pieces[id]!),
    bos: ids.bos,
    addsBos: metadata.boolean(`${prefix}add_bos_token`) ?? beginsWithBos,
    stopTokens: withKnownStops(ids.stopTokens, read),
    encode: createEncoder({
      added,
      addedNormalized: [],
      normalize: (text) => text,
      stretch: isSpm
        ? readSpmStretch(metadata, read, spacePrefix)
        : readByteLevelStretch(metadata, read, new Set(controlIds)),
    }),
    spacePrefix,
    chat: template === undefined
      ? undefined
      : { template, eos: eos === undefined ? "" : pieces[eos]!, source: "chat template" },
  });
}

function fail(message: string): FormatError {
  return new FormatError(message, { source });
}

function readSpecialIds(metadata: MetadataLookup) {
  const size = metadata.strings(`${prefix}tokens`)?.length ?? 0;
  const read = (key: string) => readId(metadata, key, size);
  const stops = ["eos_token_id", "eot_token_id", "eom_token_id"].map(read);
  return {
    bos: read("bos_token_id"),
    stopTokens: new Set(stops.filter((id) => id !== undefined)),
  };
}

function readId(metadata: MetadataLookup, key: string, size: number): TokenId | undefined {
  const id = metadata.number(prefix + key);
  if (id === undefined || (Number.isInteger(id) && id >= 0 && id < size)) return id;
  throw fail(`${key} is ${id}, but there are ${size} pieces`);
}

function readPieces(
  metadata: MetadataLookup,
  stops: ReadonlySet<TokenId>,
  bos: TokenId | undefined,
): Pieces {
  const pieces = metadata.strings(`${prefix}tokens`);
  if (!pieces || pieces.length === 0) throw fail(`${prefix}tokens is missing or empty`);
  const types = metadata.numbers(`${prefix}token_type`) ?? pieces.map(() => tokenType.normal);
  if (types.length !== pieces.length) {
    throw fail(`${types.length} token types for ${pieces.length} pieces`);
  }
  const ids = new Map<string, TokenId>();
  const special = new Set<TokenId>([...stops, ...(bos === undefined ? [] : [bos])]);
  pieces.forEach((piece, id) => {
    requirePiece(piece, source);
    const type = types[id]!;
    if (type === tokenType.normal && !special.has(id)) {
      const other = ids.get(piece);
      if (other !== undefined) throw fail(`pieces ${other} and ${id} are both ${quote(piece)}`);
      ids.set(piece, id);
    } else if (hiddenTypes.has(type)) special.add(id);
    else if (
      type !== tokenType.normal && type !== tokenType.userDefined && type !== tokenType.byte
    ) {
      throw fail(`piece ${id} has the unknown token type ${type}`);
    }
  });
  return { pieces, types, ids, special };
}

const hiddenTypes: ReadonlySet<number> = new Set([
  tokenType.unknown,
  tokenType.control,
  tokenType.unused,
]);

function addedTokens(
  { pieces, types, special }: Pieces,
  metadata: MetadataLookup,
): readonly AddedToken[] {
  const isPhi3 = /phi-?3/i.test(metadata.string("general.name") ?? "");
  return pieces.flatMap((content, id) => {
    const type = types[id]!;
    const isSpecial = special.has(id) && type !== tokenType.unused;
    if (!isSpecial && type !== tokenType.userDefined) return [];
    const token: AddedToken = {
      id,
      content,
      control: isSpecial || looksLikeControl(content),
      lstrip: false,
      // The format has no field for it; llama.cpp knows this one family by name, as we do.
      rstrip: isPhi3 && content !== "<unk>" && content !== "<s>" && content !== "<|endoftext|>",
      singleWord: false,
    };
    requireAdded(token, source);
    return [token];
  });
}

/** Llama 3 emits whole words without merging and begins with BOS; files need not say so. */
function isLlama3(metadata: MetadataLookup): boolean {
  return metadata.string(`${prefix}pre`)?.startsWith("llama") ?? false;
}

function withKnownStops(stops: ReadonlySet<TokenId>, { pieces, special }: Pieces) {
  const known = [...special].filter((id) => knownStopPieces.has(pieces[id]!));
  return new Set([...stops, ...known]);
}

function readByteLevelStretch(
  metadata: MetadataLookup,
  read: Pieces,
  controls: ReadonlySet<TokenId>,
): EncoderParts["stretch"] {
  const name = metadata.string(`${prefix}pre`);
  const split = name === undefined ? undefined : splitByGgufName.get(name);
  if (!split) throw fail(`the pre-tokenizer ${quote(String(name))} is not in the known set`);
  const lines = metadata.strings(`${prefix}merges`);
  if (!lines) throw fail(`${prefix}merges is missing`);
  const all = new Map(read.pieces.map((piece, id) => [piece, id] as const));
  const merges = lines.map((line, rank) => splitMerge(line, rank, all, source));
  const encodeWord = createByteLevelEncoder({
    ids: read.ids,
    merges: mergesByPair(merges, all, (id) => controls.has(id), source),
    ignoreMerges: isLlama3(metadata),
    source,
  });
  return (text, _first, out) => {
    for (const word of split(text)) encodeWord(word, out);
  };
}

function readSpmStretch(
  metadata: MetadataLookup,
  { pieces, types, ids }: Pieces,
  spacePrefix: boolean,
): EncoderParts["stretch"] {
  const scores = metadata.numbers(`${prefix}scores`);
  if (scores?.length !== pieces.length) {
    throw fail(`${scores?.length ?? 0} scores for ${pieces.length} pieces`);
  }
  const byteIds = new Int32Array(256).fill(-1);
  pieces.forEach((piece, id) => {
    const byte = types[id] === tokenType.byte ? byteOfPiece(piece) : undefined;
    if (byte !== undefined) byteIds[byte] = id;
  });
  const encode = createSpmEncoder({
    ids,
    scores,
    byteIds: byteIds.includes(-1) ? undefined : byteIds,
    unknown: readId(metadata, "unknown_token_id", pieces.length),
    source,
  });
  return (text, _first, out) =>
    encode((spacePrefix ? spaceMark : "") + text.replaceAll(" ", spaceMark), out);
}

function byteLevelContent(types: readonly number[]) {
  return (piece: string, id: TokenId) =>
    types[id] === tokenType.userDefined ? undefined : bytesOfPiece(piece);
}

function spmContent(types: readonly number[]) {
  return (piece: string, id: TokenId) => {
    const byte = types[id] === tokenType.byte ? byteOfPiece(piece) : undefined;
    return byte === undefined ? toUtf8(piece.replaceAll(spaceMark, " ")) : Uint8Array.of(byte);
  };
}
