/** Pieces, their types and the ids with a meaning of their own: the checked part of GGUF metadata. */
import { FormatError } from "../errors.ts";
import { quote } from "../formats/json.ts";
import type { TokenId } from "../model.ts";
import type { AddedToken } from "./added_tokens.ts";
import { knownStopPieces, looksLikeControl, requireAdded, requirePiece } from "./pieces.ts";

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

/** What is read, for messages. */
export const ggufSource = "GGUF tokenizer";
/** Common start of most keys. */
export const ggufPrefix = "tokenizer.ggml.";

/** All pieces. Arrays are indexed by token id. */
export interface GgufPieces {
  readonly pieces: readonly string[];
  /** One per piece, see {@link tokenType}. */
  readonly types: readonly number[];
  /** Ordinary pieces only. */
  readonly ids: ReadonlyMap<string, TokenId>;
  /** Tokens that add no text. */
  readonly special: ReadonlySet<TokenId>;
  readonly bos: TokenId | undefined;
  readonly eos: TokenId | undefined;
  readonly stopTokens: ReadonlySet<TokenId>;
  /** Pieces matched in the text itself. */
  readonly added: readonly AddedToken[];
}

/** @throws {FormatError} if pieces, types or ids contradict each other */
export function readGgufPieces(metadata: MetadataLookup): GgufPieces {
  const pieces = metadata.strings(`${ggufPrefix}tokens`);
  if (!pieces || pieces.length === 0) throw fail(`${ggufPrefix}tokens is missing or empty`);
  const types = metadata.numbers(`${ggufPrefix}token_type`) ?? pieces.map(() => tokenType.normal);
  if (types.length !== pieces.length) {
    throw fail(`${types.length} token types for ${pieces.length} pieces`);
  }
  const id = (key: string) => readTokenId(metadata, key, pieces.length);
  const bos = id("bos_token_id");
  const eos = id("eos_token_id");
  const named = [eos, id("eot_token_id"), id("eom_token_id")].filter((stop) => stop !== undefined);
  const special = new Set(bos === undefined ? named : [...named, bos]);
  types.forEach((type, token) => {
    if (!knownTypes.has(type)) throw fail(`piece ${token} has the unknown token type ${type}`);
    if (hiddenTypes.has(type)) special.add(token);
  });
  const known = [...special].filter((token) => knownStopPieces.has(pieces[token]!));
  return {
    pieces,
    types,
    ids: ordinaryIds(pieces, types, special),
    special,
    bos,
    eos,
    stopTokens: new Set([...named, ...known]),
    added: addedTokens(pieces, types, special, metadata.string("general.name") ?? ""),
  };
}

/** @throws {FormatError} if the key's value is not an id below `size` */
export function readTokenId(
  metadata: MetadataLookup,
  key: string,
  size: number,
): TokenId | undefined {
  const id = metadata.number(ggufPrefix + key);
  if (id === undefined || (Number.isInteger(id) && id >= 0 && id < size)) return id;
  throw fail(`${key} is ${id}, but there are ${size} pieces`);
}

const knownTypes: ReadonlySet<number> = new Set(Object.values(tokenType));
const hiddenTypes: ReadonlySet<number> = new Set([
  tokenType.unknown,
  tokenType.control,
  tokenType.unused,
]);

function ordinaryIds(
  pieces: readonly string[],
  types: readonly number[],
  special: ReadonlySet<TokenId>,
): ReadonlyMap<string, TokenId> {
  const ids = new Map<string, TokenId>();
  pieces.forEach((piece, id) => {
    requirePiece(piece, ggufSource);
    if (types[id] !== tokenType.normal || special.has(id)) return;
    const other = ids.get(piece);
    if (other !== undefined) throw fail(`pieces ${other} and ${id} are both ${quote(piece)}`);
    ids.set(piece, id);
  });
  return ids;
}

function addedTokens(
  pieces: readonly string[],
  types: readonly number[],
  special: ReadonlySet<TokenId>,
  modelName: string,
): readonly AddedToken[] {
  // The format has no field for rstrip; llama.cpp knows this one family by name, as we do.
  const isPhi3 = /phi-?3/i.test(modelName);
  return pieces.flatMap((content, id) => {
    const type = types[id]!;
    const isSpecial = special.has(id) && type !== tokenType.unused;
    if (!isSpecial && type !== tokenType.userDefined) return [];
    const token: AddedToken = {
      id,
      content,
      control: isSpecial || looksLikeControl(content),
      lstrip: false,
      rstrip: isPhi3 && content !== "<unk>" && content !== "<s>" && content !== "<|endoftext|>",
      singleWord: false,
    };
    requireAdded(token, ggufSource);
    return [token];
  });
}

function fail(message: string): FormatError {
  return new FormatError(message, { source: ggufSource });
}
