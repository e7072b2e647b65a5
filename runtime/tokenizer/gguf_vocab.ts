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
import { bytesOfPiece, createByteLevelEncoder } from "./byte_level.ts";
import { toUtf8 } from "./bytes.ts";
import { byteOfPiece, spaceMark } from "./char_level.ts";
import { createEncoder, type EncoderParts } from "./encoder.ts";
import {
  type GgufPieces,
  ggufPrefix as prefix,
  ggufSource as source,
  type MetadataLookup,
  readGgufPieces,
  readTokenId,
  tokenType,
} from "./gguf_pieces.ts";
import { contentsOf, mergesByPair, splitMerge } from "./pieces.ts";
import { splitByGgufName } from "./pretokenize.ts";
import { createSpmEncoder } from "./spm.ts";
import { createVocab } from "./vocab.ts";

export type { MetadataLookup };

/** What differs between the two families of tokenizers. */
interface Family {
  readonly stretch: EncoderParts["stretch"];
  /** Bytes of a piece that is not special; undefined for its own UTF-8. */
  readonly content: (piece: string, id: TokenId) => Uint8Array | undefined;
  /** Whether texts begin with BOS unless the file says otherwise. */
  readonly beginsWithBos: boolean;
  readonly spacePrefix: boolean;
}

/**
 * Reads the tokenizer of a GGUF file: byte-level BPE ("gpt2") or SentencePiece BPE ("llama").
 *
 * @throws {FormatError} on anything malformed or not supported, naming it
 */
export function readGgufVocab(metadata: MetadataLookup): Vocab {
  const read = readGgufPieces(metadata);
  const { pieces, special, added, bos, eos, stopTokens } = read;
  const { stretch, content, beginsWithBos, spacePrefix } = readFamily(metadata, read);
  const template = metadata.string("tokenizer.chat_template");
  return createVocab({
    pieces,
    special,
    contents: contentsOf(pieces, special, content),
    controls: added.filter((token) => token.control).map((token) => token.content),
    bos,
    addsBos: metadata.boolean(`${prefix}add_bos_token`) ?? beginsWithBos,
    stopTokens,
    encode: createEncoder({ added, addedNormalized: [], normalize: (text) => text, stretch }),
    spacePrefix,
    chat: template === undefined
      ? undefined
      : { template, eos: eos === undefined ? "" : pieces[eos]!, source: "chat template" },
  });
}

function fail(message: string): FormatError {
  return new FormatError(message, { source });
}

function readFamily(metadata: MetadataLookup, read: GgufPieces): Family {
  const model = metadata.string(`${prefix}model`);
  if (model === "llama") return readSpm(metadata, read);
  if (model === "gpt2") return readByteLevel(metadata, read);
  throw fail(`the tokenizer model ${quote(String(model))} is not supported`);
}

function readByteLevel(
  metadata: MetadataLookup,
  { pieces, types, ids, added }: GgufPieces,
): Family {
  const name = metadata.string(`${prefix}pre`);
  const split = name === undefined ? undefined : splitByGgufName.get(name);
  if (!split) throw fail(`the pre-tokenizer ${quote(String(name))} is not in the known set`);
  const lines = metadata.strings(`${prefix}merges`);
  if (!lines) throw fail(`${prefix}merges is missing`);
  const all = new Map([...pieces.map((piece, id) => [piece, id] as const), ...ids]);
  const merges = lines.map((line, rank) => splitMerge(line, rank, all, source));
  const controls = new Set(added.filter((token) => token.control).map((token) => token.id));
  // Llama 3 emits whole words without merging and begins with BOS; files need not say so.
  const isLlama3 = name?.startsWith("llama") ?? false;
  const encodeWord = createByteLevelEncoder({
    ids,
    merges: mergesByPair(merges, all, (id) => controls.has(id), source),
    ignoreMerges: isLlama3,
    source,
  });
  return {
    stretch: (text, _first, out) => {
      for (const word of split(text)) encodeWord(word, out);
    },
    content: (piece, id) => types[id] === tokenType.userDefined ? undefined : bytesOfPiece(piece),
    beginsWithBos: isLlama3,
    spacePrefix: false,
  };
}

function readSpm(metadata: MetadataLookup, { pieces, types, ids }: GgufPieces): Family {
  const scores = metadata.numbers(`${prefix}scores`);
  if (scores?.length !== pieces.length) {
    throw fail(`${scores?.length ?? 0} scores for ${pieces.length} pieces`);
  }
  const byteAt = (piece: string, id: TokenId) =>
    types[id] === tokenType.byte ? byteOfPiece(piece) : undefined;
  const byteIds = new Int32Array(256).fill(-1);
  pieces.forEach((piece, id) => {
    const byte = byteAt(piece, id);
    if (byte !== undefined) byteIds[byte] = id;
  });
  const encode = createSpmEncoder({
    ids,
    scores,
    byteIds: byteIds.includes(-1) ? undefined : byteIds,
    unknown: readTokenId(metadata, "unknown_token_id", pieces.length),
    source,
  });
  const spacePrefix = metadata.boolean(`${prefix}add_space_prefix`) ?? true;
  return {
    stretch: (text, _first, out) =>
      encode((spacePrefix ? spaceMark : "") + text.replaceAll(" ", spaceMark), out),
    content: (piece, id) => {
      const byte = byteAt(piece, id);
      return byte === undefined ? toUtf8(piece.replaceAll(spaceMark, " ")) : Uint8Array.of(byte);
    },
    beginsWithBos: true,
    spacePrefix,
  };
}
