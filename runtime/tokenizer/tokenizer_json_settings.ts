/** Added tokens, begin and end of sequence and the chat template: tokenizer.json and its neighbours. */
import { FormatError } from "../errors.ts";
import { parseJson } from "../formats/json.ts";
import type { TokenId } from "../model.ts";
import type { AddedToken } from "./added_tokens.ts";
import { type Fields, fieldsOf, quote } from "./json_fields.ts";
import { knownStopPieces, looksLikeControl } from "./pieces.ts";
import type { TokenizerFiles } from "./tokenizer_json.ts";

/** An added token as the file marks it. */
export interface FileAddedToken extends AddedToken {
  readonly special: boolean;
  readonly normalized: boolean;
}

/** What the files say beyond pieces and steps. */
export interface Settings {
  readonly added: readonly AddedToken[];
  /** Added tokens that are matched after normalisation. */
  readonly normalized: ReadonlySet<TokenId>;
  readonly special: ReadonlySet<TokenId>;
  readonly bos: TokenId | undefined;
  readonly addsBos: boolean;
  readonly stopTokens: ReadonlySet<TokenId>;
  readonly chat: { template: string; eos: string; source: string } | undefined;
}

const configSource = "tokenizer_config.json";
const generationSource = "generation_config.json";

/** @throws {FormatError} if a token's id contradicts the vocabulary or another token */
export function readAddedTokens(
  root: Fields,
  ids: ReadonlyMap<string, TokenId>,
): readonly FileAddedToken[] {
  return root.objects("added_tokens").map((token) => {
    const content = token.string("content");
    const id = token.number("id");
    if (content === undefined || id === undefined) throw token.error("id or content is missing");
    const known = ids.get(content);
    if (known !== undefined && known !== id) {
      throw token.error(`${quote(content)} has id ${id}, but ${known} in the vocabulary`);
    }
    const special = token.boolean("special") ?? false;
    return {
      id,
      content,
      special,
      control: special || looksLikeControl(content),
      normalized: token.boolean("normalized") ?? !special,
      lstrip: token.boolean("lstrip") ?? false,
      rstrip: token.boolean("rstrip") ?? false,
      singleWord: token.boolean("single_word") ?? false,
    };
  });
}

/** What {@link readSettings} needs from tokenizer.json. */
export interface TokenizerFacts {
  readonly added: readonly FileAddedToken[];
  readonly ids: ReadonlyMap<string, TokenId>;
  /** Piece that the post-processor puts first. */
  readonly templateBos: string | undefined;
}

/**
 * Joins the files. Begin, end and stop tokens are special even where the file does not mark them.
 *
 * @throws {FormatError} if a file is malformed or names an unknown token
 */
export function readSettings(files: TokenizerFiles, facts: TokenizerFacts): Settings {
  const config = fieldsOf(parse(files.config, configSource), "", configSource);
  const idOf = idLookUp(facts);
  const bosPiece = readPiece(config, "bos_token") ?? facts.templateBos;
  const bos = bosPiece === undefined ? undefined : idOf(bosPiece, "bos_token");
  const eosPiece = readPiece(config, "eos_token");
  const eos = eosPiece === undefined ? undefined : idOf(eosPiece, "eos_token");
  const stopTokens = readStopTokens(files.generation, facts, eos);
  const special = new Set<TokenId>(facts.added.filter((t) => t.special).map((t) => t.id));
  for (const id of [bos, ...stopTokens]) if (id !== undefined) special.add(id);
  const template = files.chatTemplate ?? readTemplate(config);
  return {
    added: withForced(facts, special),
    normalized: new Set(facts.added.filter((t) => t.normalized).map((t) => t.id)),
    special,
    bos,
    addsBos: config.boolean("add_bos_token") ?? facts.templateBos !== undefined,
    stopTokens,
    chat: template === undefined
      ? undefined
      : { template, eos: eosPiece ?? "", source: "chat template" },
  };
}

function parse(text: string | undefined, source: string) {
  return text === undefined ? new Map() : parseJson(text, { source, maxDepth: 32 });
}

function idLookUp({ added, ids }: TokenizerFacts) {
  const own = new Map(added.map((token) => [token.content, token.id]));
  return (piece: string, key: string): TokenId => {
    const id = own.get(piece) ?? ids.get(piece);
    if (id !== undefined) return id;
    throw new FormatError(`"${key}" ${quote(piece)} is not in the vocabulary`, {
      source: configSource,
    });
  };
}

/** A token is written as its text or as an object with its text. */
function readPiece(config: Fields, key: string): string | undefined {
  return typeof config.json(key) === "string"
    ? config.string(key)
    : config.object(key)?.string("content");
}

/** Either one template or several by name, of which "default" is meant. */
function readTemplate(config: Fields): string | undefined {
  if (!Array.isArray(config.json("chat_template"))) return config.string("chat_template");
  const named = config.objects("chat_template").find((one) => one.string("name") === "default");
  return named?.string("template");
}

function readStopTokens(
  generation: string | undefined,
  { added, ids }: TokenizerFacts,
  eos: TokenId | undefined,
): ReadonlySet<TokenId> {
  const listed = readEosIds(
    fieldsOf(parse(generation, generationSource), "", generationSource),
    Math.max(ids.size, ...added.map((token) => token.id + 1)),
  );
  const known = added.filter((token) => token.special && knownStopPieces.has(token.content));
  const stops = listed.length > 0 ? listed : known.map((token) => token.id);
  return new Set(eos === undefined ? stops : [...stops, eos]);
}

function readEosIds(generation: Fields, size: number): readonly TokenId[] {
  const value = generation.json("eos_token_id");
  if (value === undefined) return [];
  return (Array.isArray(value) ? value : [value]).map((id) => {
    if (Number.isInteger(id) && id >= 0 && id < size) return id;
    throw generation.error(`"eos_token_id" is not a token id below ${size}`);
  });
}

/** Added tokens, with every special piece among them. */
function withForced(facts: TokenizerFacts, special: ReadonlySet<TokenId>): readonly AddedToken[] {
  const own = new Set(facts.added.map((token) => token.id));
  const listed = facts.added.map((t) => special.has(t.id) ? { ...t, control: true } : t);
  const forced = [...facts.ids].filter(([, id]) => special.has(id) && !own.has(id));
  return [
    ...listed,
    ...forced.map(([content, id]) => ({
      id,
      content,
      control: true,
      lstrip: false,
      rstrip: false,
      singleWord: false,
    })),
  ];
}
