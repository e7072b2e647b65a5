/** Every vocabulary of the shared test data, with a chat template where there is one. */
import type { Vocab } from "../../../runtime/model.ts";
import { openGguf } from "../../../runtime/formats/gguf.ts";
import { readGgufVocab } from "../../../runtime/tokenizer/gguf_vocab.ts";
import { readTokenizerJson } from "../../../runtime/tokenizer/tokenizer_json.ts";
import { sharedData } from "../../_shared_data.ts";
import { readTokenizerFile, type TokenizerSpec, tokenizerText } from "./_golden_files.ts";

const llama3Specials = Object.fromEntries(
  [
    "begin_of_text",
    "end_of_text",
    "reserved_special_token_0",
    "reserved_special_token_1",
    "finetune_right_pad_id",
    "reserved_special_token_2",
    "start_header_id",
    "end_header_id",
    "eom_id",
    "eot_id",
    "python_tag",
    ...Array.from({ length: 245 }, (_, i) => `reserved_special_token_${i + 3}`),
  ].map((name, i) => [`<|${name}|>`, 128_000 + i]),
);

const byteLevel = { type: "ByteLevel", "use_regex": false };

function splitWith(digits: string) {
  const Regex =
    `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
  const split = { type: "Split", pattern: { Regex }, behavior: "Isolated", invert: false };
  return { type: "Sequence", pretokenizers: [split, byteLevel] };
}

/** Llama 3.2 from its vocabulary and merge list. */
export const llama3Spec: TokenizerSpec = {
  files: {
    vocab: "llama3/encoder.json",
    merges: "llama3/vocab.bpe",
    ignoreMerges: true,
    special: llama3Specials,
  },
  patch: { "pre_tokenizer": splitWith("\\p{N}{1,3}") },
};

/** Qwen2.5 from its vocabulary and merge list. */
export const qwen25Spec: TokenizerSpec = {
  files: {
    vocab: "qwen2.5/vocab.json",
    merges: "qwen2.5/merges.txt",
    config: "qwen2.5/tokenizer_config.json",
  },
  patch: { normalizer: { type: "NFC" }, "pre_tokenizer": splitWith("\\p{N}") },
};

/** For vocabularies without a template. */
const plainTemplate = "{{ bos_token }}{% for message in messages %}[{{ message.role }}] " +
  "{{ message.content | trim }}{{ eos_token }}\n{% endfor %}" +
  "{% if add_generation_prompt %}[assistant]{% endif %}";

function fromJson(folder: string, config: string): Vocab {
  return readTokenizerJson({
    tokenizer: readTokenizerFile(`${folder}/tokenizer.json`),
    config: JSON.stringify({ "chat_template": plainTemplate, ...JSON.parse(config) }),
  });
}

function fromGguf(name: string): Vocab {
  const { metadata } = openGguf(sharedData(`tokenizers/llamacpp-vocab/ggml-vocab-${name}.gguf`));
  return readGgufVocab({
    string: (key) =>
      metadata.string(key) ?? (key === "tokenizer.chat_template" ? plainTemplate : undefined),
    number: (key) => metadata.number(key),
    boolean: (key) => metadata.boolean(key),
    strings: (key) => metadata.strings(key),
    numbers: (key) => metadata.numbers(key),
  });
}

function llama3(): Vocab {
  return readTokenizerJson({
    tokenizer: tokenizerText(llama3Spec),
    config: JSON.stringify({ "bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>" }),
    chatTemplate: readTokenizerFile("chat-templates/meta-llama-Llama-3.2-3B-Instruct.jinja"),
  });
}

/** Qwen2.5's pieces; Qwen3 has the same and a few more control tokens. */
function qwen(config: string): Vocab {
  const { files, patch } = qwen25Spec;
  return readTokenizerJson({
    tokenizer: tokenizerText({ files: { ...files!, config }, patch: patch! }),
    config: readTokenizerFile(config),
  });
}

const endOfText = `{"eos_token": "<|endoftext|>"}`;

const loaders: Readonly<Record<string, () => Vocab>> = {
  "gpt2 tokenizer.json": () => fromJson("gpt2", endOfText),
  "gpt-neox tokenizer.json": () => fromJson("gpt-neox", endOfText),
  "llama2 tokenizer.json": () =>
    fromJson("llama2", readTokenizerFile("llama2/tokenizer_config.json")),
  "phi-3 tokenizer.json": () => fromJson("phi-3", readTokenizerFile("phi-3/tokenizer_config.json")),
  "llama3": llama3,
  "qwen2.5": () => qwen("qwen2.5/tokenizer_config.json"),
  "qwen3": () => qwen("qwen3/tokenizer_config.json"),
  "gpt-2 gguf": () => fromGguf("gpt-2"),
  "llama-spm gguf": () => fromGguf("llama-spm"),
  "phi-3 gguf": () => fromGguf("phi-3"),
  "deepseek-coder gguf": () => fromGguf("deepseek-coder"),
};

export const vocabularyNames: readonly string[] = Object.keys(loaders);
let last: { readonly name: string; readonly vocab: Vocab } | undefined;

/** One of {@link vocabularyNames}, each with a chat template. The last one is kept. */
export function loadVocabulary(name: string): Vocab {
  if (last?.name !== name) last = { name, vocab: loaders[name]!() };
  return last.vocab;
}
