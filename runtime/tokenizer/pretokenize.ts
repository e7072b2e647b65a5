/**
 * Pre-tokenizers: cutting text into words that are encoded one by one.
 *
 * Only expressions known here run. Each is linear on any input: at most one of its alternatives can
 * read a long stretch, and giving characters back ends after that stretch. An expression from a
 * tokenizer file is looked up, never compiled.
 *
 * Sources: GPT-2 encoder.py; tiktoken `cl100k_base` and `o200k_base`; the tokenizer.json of Llama 3,
 * Qwen2, Mistral Nemo and DeepSeek Coder.
 * Differs: `\s` is written as White_Space, which is what the engines of those projects mean by it;
 * JavaScript's own `\s` has U+FEFF in it and lacks U+0085.
 */

/** Cuts a text into consecutive words that together are the text. */
export type Split = (text: string) => readonly string[];

const contraction = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const upper = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
const lower = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
const spaces = "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

const gpt2Source =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const llama3Source =
  `${contraction}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${spaces}`;
const qwen2Source = llama3Source.replace("{1,3}", "");
const cl100kSource =
  "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+";
const o200kSource =
  `[^\\r\\n\\p{L}\\p{N}]?${upper}*${lower}+${contraction}?|[^\\r\\n\\p{L}\\p{N}]?${upper}+${lower}*${contraction}?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${spaces}`;
const tekkenSource =
  `[^\\r\\n\\p{L}\\p{N}]?${upper}*${lower}+|[^\\r\\n\\p{L}\\p{N}]?${upper}+${lower}*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${spaces}`;
const deepseekCoderSources = [
  "[\\r\\n]",
  "\\s?\\p{L}+",
  "\\s?\\p{P}+",
  "[一-龥ࠀ-一가-퟿]+",
];

/** GPT-2's expression; byte-level pre-tokenizers have it built in. */
export const splitGpt2: Split = isolate(gpt2Source);
/** Each number character on its own. */
export const splitDigits: Split = isolate("\\p{N}");
/** Runs of number characters. */
export const splitNumbers: Split = isolate("\\p{N}+");

/** A split from the known set. */
export interface KnownSplit {
  readonly split: Split;
  /** Whether its matches cover any text, leaving nothing between them. */
  readonly covers: boolean;
}

const coveringSources = [
  gpt2Source,
  llama3Source,
  qwen2Source,
  cl100kSource,
  o200kSource,
  tekkenSource,
];
const partialSources = [...deepseekCoderSources, "[\r\n]", "\\p{N}", "\\p{N}{1,3}"];
const known: ReadonlyMap<string, KnownSplit> = new Map<string, KnownSplit>([
  ...coveringSources.map((source) => [source, knownAs(source, true)] as const),
  ...partialSources.map((source) => [source, knownAs(source, false)] as const),
]);

function knownAs(source: string, covers: boolean): KnownSplit {
  return { split: isolate(source), covers };
}

/** The split for an expression as tokenizer.json writes it; undefined if it is not known. */
export function knownSplit(expression: string): KnownSplit | undefined {
  return known.get(expression);
}

const llama3: Split = isolate(llama3Source);
const qwen2: Split = isolate(qwen2Source);
const digitsThenGpt2: Split = chain([splitDigits, splitGpt2]);
const deepseekCoder: Split = chain([
  ...deepseekCoderSources.map((source) => isolate(source)),
  splitDigits,
]);

/** Pre-tokenizers by the names GGUF files use (`tokenizer.ggml.pre`). */
export const splitByGgufName: ReadonlyMap<string, Split> = new Map([
  ["gpt-2", splitGpt2],
  ["llama-bpe", llama3],
  ["llama3", llama3],
  ["llama-v3", llama3],
  ["qwen2", qwen2],
  ["smollm", digitsThenGpt2],
  ["starcoder", digitsThenGpt2],
  ["refact", digitsThenGpt2],
  ["deepseek-coder", deepseekCoder],
  ["gpt-4o", isolate(o200kSource)],
  ["tekken", isolate(tekkenSource)],
]);

/** Applies splits one after the other, each to every word of the one before. */
export function chain(splits: readonly Split[]): Split {
  return (text) =>
    splits.reduce<readonly string[]>((words, split) => words.flatMap((w) => split(w)), [text]);
}

/** Words are the matches of an expression and the stretches between them. */
function isolate(expression: string): Split {
  // Possessive quantifiers (?+, ++) never change these matches: nothing after them could use what
  // they would give back.
  const source = expression.replaceAll("?+", "?").replaceAll("++", "+")
    .replaceAll("\\s", "\\p{White_Space}").replaceAll("\\S", "\\P{White_Space}");
  const matcher = new RegExp(source, "gu");
  return (text) => {
    const words: string[] = [];
    let end = 0;
    try {
      for (const match of text.matchAll(matcher)) {
        if (match.index > end) words.push(text.slice(end, match.index));
        words.push(match[0]);
        end = match.index + match[0].length;
      }
    } catch (cause) {
      // V8 keeps what a match could give back on a bounded stack: enough for about 5 million.
      throw new RangeError("Cannot encode a word of millions of characters", { cause });
    }
    if (end < text.length) words.push(text.slice(end));
    return words;
  };
}
