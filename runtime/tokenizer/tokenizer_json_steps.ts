/**
 * The steps of a tokenizer.json around its model: normalizer, pre-tokenizer, post-processor and
 * decoder. Kinds not listed here are refused by name.
 *
 * Source: the serialisation of the Hugging Face tokenizers library, 0.23.
 */
import type { FormatError } from "../errors.ts";
import { spaceMark } from "./char_level.ts";
import type { Fields } from "./json_fields.ts";
import { quote } from "./json_fields.ts";
import { nfc, type Normalize, prepend, replace, sequence } from "./normalize.ts";
import { knownSplit, type Split, splitDigits, splitGpt2, splitNumbers } from "./pretokenize.ts";

const MAX_STEPS = 32;
/** What a normalizer may put in at each place. */
const MAX_INSERTED = 16;

/** Cuts a stretch of text into words; `first` if it starts the whole text. */
export type SplitStretch = (text: string, first: boolean) => readonly string[];

/** What a pre-tokenizer does. */
export interface PreTokenizer {
  readonly byteLevel: boolean;
  readonly split: SplitStretch;
}

/** What a decoder does beyond joining pieces. */
export interface Decoder {
  readonly byteLevel: boolean;
  /** Takes one space off the front of the text. */
  readonly stripsSpace: boolean;
  /** Turns pieces like "<0x0A>" into bytes. */
  readonly byteFallback: boolean;
}

/** @throws {FormatError} */
export function readNormalizer(step: Fields | undefined): Normalize {
  switch (step?.string("type")) {
    case undefined:
      if (step) throw unknown(step, "normalizer");
      return (text) => text;
    case "NFC":
      return nfc;
    case "Prepend":
      return prepend(requireShort(step!, "prepend"));
    case "Replace":
      return replace(readPattern(step!), requireShort(step!, "content"));
    case "Sequence":
      return sequence(requireFew(step!, step!.objects("normalizers")).map(readNormalizer));
    default:
      throw unknown(step!, "normalizer");
  }
}

/** @throws {FormatError} */
export function readPreTokenizer(step: Fields | undefined): PreTokenizer {
  if (!step) return { byteLevel: false, split: (text) => [text] };
  const steps = flatten(step, "pretokenizers");
  const splits = steps.map(readSplitStep);
  const byteLevel = steps.findIndex((one) => one.string("type") === "ByteLevel");
  if (byteLevel >= 0 && byteLevel < steps.length - 1) {
    throw step.error("a ByteLevel step has to be the last one");
  }
  return {
    byteLevel: byteLevel >= 0,
    split: (text, first) =>
      splits.reduce<readonly string[]>(
        (words, split) => words.flatMap((word, i) => split(word, first && i === 0)),
        [text],
      ),
  };
}

function readSplitStep(step: Fields): SplitStretch {
  switch (step.string("type")) {
    case "ByteLevel": {
      const split: Split = step.boolean("use_regex") ?? true ? splitGpt2 : (text) => [text];
      if (!step.boolean("add_prefix_space")) return split;
      return (text) => split(text.startsWith(" ") ? text : ` ${text}`);
    }
    case "Digits":
      return step.boolean("individual_digits") ? splitDigits : splitNumbers;
    case "Split":
      return readSplit(step);
    case "Metaspace":
      return readMetaspace(step);
    default:
      throw unknown(step, "pre-tokenizer");
  }
}

function readSplit(step: Fields): Split {
  const pattern = step.object("pattern")?.string("Regex");
  if (pattern === undefined) throw step.error("only expressions from the known set are supported");
  const known = knownSplit(pattern);
  if (!known) throw step.error(`the expression ${quote(pattern)} is not in the known set`);
  const behavior = step.string("behavior");
  const invert = step.boolean("invert") ?? false;
  // Where nothing is left between matches, keeping only those is the same.
  const keepsAll = (behavior === "Isolated" && !invert) ||
    (behavior === "Removed" && invert && known.covers);
  if (!keepsAll) {
    throw step.error(`behavior ${quote(String(behavior))} with invert ${invert} is not supported`);
  }
  return known.split;
}

/** Spaces become U+2581, one is put in front, and words may start at each of them. */
function readMetaspace(step: Fields): SplitStretch {
  requireSpaceMark(step);
  const scheme = prependScheme(step);
  const cut = step.boolean("split") ?? true;
  return (text, first) => {
    const marked = text.replaceAll(" ", spaceMark);
    const prefix = scheme === "always" || (scheme === "first" && first);
    const whole = prefix && !marked.startsWith(spaceMark) ? spaceMark + marked : marked;
    return cut ? whole.match(/\u2581?[^\u2581]+|\u2581/gu) ?? [] : [whole];
  };
}

function prependScheme(step: Fields): "always" | "first" | "never" {
  const scheme = step.string("prepend_scheme") ??
    (step.boolean("add_prefix_space") ?? true ? "always" : "never");
  if (scheme === "always" || scheme === "first" || scheme === "never") return scheme;
  throw step.error(`unknown prepend_scheme ${quote(scheme)}`);
}

/**
 * The token put in front of every text, undefined for none.
 *
 * @throws {FormatError}
 */
export function readPostProcessor(step: Fields | undefined): string | undefined {
  if (!step) return undefined;
  let bos: string | undefined;
  for (const one of flatten(step, "processors")) {
    const type = one.string("type");
    if (type === "ByteLevel") continue; // changes offsets only
    if (type !== "TemplateProcessing") throw unknown(one, "post-processor");
    bos ??= one.objects("single")[0]?.object("SpecialToken")?.string("id");
  }
  return bos;
}

/** @throws {FormatError} */
export function readDecoder(step: Fields | undefined): Decoder {
  let byteLevel = false;
  let stripsSpace = false;
  let byteFallback = false;
  for (const one of step ? flatten(step, "decoders") : []) {
    switch (one.string("type")) {
      case "ByteLevel":
        byteLevel = true;
        break;
      case "ByteFallback":
        byteFallback = true;
        break;
      case "Fuse":
        break;
      case "Replace":
        if (readPattern(one) !== spaceMark || one.string("content") !== " ") {
          throw one.error("only U+2581 may be replaced, by a space");
        }
        break;
      case "Strip":
        requireLeadingStrip(one);
        stripsSpace = one.number("start") === 1;
        break;
      case "Metaspace":
        requireSpaceMark(one);
        stripsSpace = prependScheme(one) !== "never";
        break;
      default:
        throw unknown(one, "decoder");
    }
  }
  return { byteLevel, stripsSpace, byteFallback };
}

function requireLeadingStrip(step: Fields): void {
  const [start, stop] = [step.number("start") ?? 0, step.number("stop") ?? 0];
  if (step.string("content") !== " " || stop !== 0 || (start !== 0 && start !== 1)) {
    throw step.error("only one space at the front may be stripped");
  }
}

function requireSpaceMark(step: Fields): void {
  if (step.string("replacement") !== spaceMark) throw step.error("the replacement is not U+2581");
}

function readPattern(step: Fields): string {
  const text = step.object("pattern")?.string("String");
  if (text === undefined || text === "") throw step.error("only a plain string may be replaced");
  return text;
}

/** A step, or the steps of a (nested) sequence. */
function flatten(step: Fields, list: string): readonly Fields[] {
  if (step.string("type") !== "Sequence") return [step];
  return requireFew(step, step.objects(list).flatMap((one) => flatten(one, list)));
}

function requireFew(step: Fields, steps: readonly Fields[]): readonly Fields[] {
  if (steps.length > MAX_STEPS) throw step.error(`${steps.length} steps, at most ${MAX_STEPS}`);
  return steps;
}

function requireShort(step: Fields, key: string): string {
  const text = step.string(key);
  if (text === undefined || text.length > MAX_INSERTED) {
    throw step.error(`${quote(key)} has to have at most ${MAX_INSERTED} characters`);
  }
  return text;
}

function unknown(step: Fields, what: string): FormatError {
  return step.error(`the ${what} ${quote(step.string("type") ?? "without type")} is not supported`);
}
