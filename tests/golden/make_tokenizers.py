"""Writes tokenizers.json: token ids and decoded text of awkward strings, by Hugging Face's tokenizers
library, for the tokenizers of the shared test data and some variants of them.

    python3 -m venv env && env/bin/pip install tokenizers==0.23.3
    env/bin/python make_tokenizers.py ../../../shared/data/tokenizers

Per case: ids with control tokens recognised; "plain" if they differ, ids with control tokens as plain
text; "decoded" if it differs from the text, what decoding gives with special tokens left out.
"""

import copy
import json
import sys

from tokenizers import Tokenizer

ROOT = sys.argv[1].rstrip("/") + "/"

TEXTS = [
    "", " ", "  ", "   ", "\n", "\n\n", " \n", "\n ", "\t", "\t\t x", "\r\n", "a\r\n\r\n b", "\n \n  \n   x",
    "Hello world", " Hello  world ", "Hello,   world!!!  ", "don't DON'T Don'T we'll I'VE y'all's 'tis '' 's",
    "it\u2019s 'S 'ſ 'K \u2018re", "1", "12", "123", "1234567890", "3.14159 1,000,000 v2.0.1", "٣٤٥ ½ Ⅷ ² ① 一二三",
    "snake_case camelCase SCREAMING_CASE kebab-case", "if (x == 0) {\n\treturn foo->bar[i++];\n}\n",
    "def f(x):\n    if x:\n        return [x for _ in range(10)]\n\n\n# done   \n", "https://example.org/a?b=c&d=%20#e",
    "a" * 100, "ab" * 60, " " * 40, " " * 41 + "x", "\n" * 9, "\t" * 7, "=" * 70, "!?" * 20, "-" * 17 + ">",
    "Führer naïve façade Cửa Việt", "e\u0301 o\u0308 A\u030a \u1112\u1161\u11ab", "\u0301leading mark", "a\u0301\u0323b\u0323\u0301",
    "Ελληνικά Русский עברית العربية हिन्दी ไทย ខ្មែរ", "日本語のテキスト。漢字かな交じり文", "我想在apple工作1314151天～", "한국어 문장입니다.",
    "🙂🙃 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 ☎️ 😶‍🌫️", "𝒜𝓃 𐍈 𠜎", "x\u0085y\u0085\u0085z", "\ufeffBOM\ufeff in \ufeff between", "a\u00a0b\u00a0\u00a0c\u2003d\u3000e",
    "zero\u200bwidth\u200djoin\u2060er \u180e", "nul\x00bel\x07esc\x1b[0m del\x7f fs\x1c us\x1f", "\ue000\uf8ff private", "\ufffd \ufffe \uffff",
    "▁ ▁▁ under▁score", "Ġ Ċ Ġhello", "<0x0A> <0x41> <0xFF>", "<s>", "</s>", "a<s>b</s>c", " </s> ", "<s>[INST] hi [/INST] hello </s><s>[INST]",
    "<|endoftext|>", "a <|endoftext|> b", "<|endoftext|><|endoftext|>\n", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start", "<|im_start|", "|>", "<tool_call>\n{\"a\": 1}\n</tool_call>", "<think>x</think>", "<|user|>  \n hi<|end|>\n<|assistant|>\n",
    "<|user|>", "  <|end|>   <|end|>", "<unk> <pad>", "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>",
    "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>", "{\"key\": [1, 2.5e-3, null, true], \"s\": \"\\u00e9\\n\"}", "ÀÉÎõü ÿ Ā ſtraße ǅ ŉ",
    "I’m “quoted” — dashes – and… ellipsis", "mixed\n  indent\n\t tabs \n\r\n end  ", "Ω≈ç√∫˜µ≤≥÷", "İstanbul IŞIK ıi", "ʻokina ՚ ꞌ", "ᏣᎳᎩ ꮳꮃꭹ",
]

ENDOFTEXT = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
CASED = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]", "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
LLAMA3 = f"{CONTRACTION}|[^\\r\\n\\p{{L}}\\p{{N}}]?\\p{{L}}+|\\p{{N}}{{1,3}}| ?[^\\s\\p{{L}}\\p{{N}}]+[\\r\\n]*|{SPACES}"
QWEN2 = LLAMA3.replace("{1,3}", "")
CL100K = ("'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*"
          "|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+")
O200K = "|".join(
    [f"[^\\r\\n\\p{{L}}\\p{{N}}]?{CASED[0]}*{CASED[1]}+{CONTRACTION}?", f"[^\\r\\n\\p{{L}}\\p{{N}}]?{CASED[0]}+{CASED[1]}*{CONTRACTION}?",
     "\\p{N}{1,3}", " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*", SPACES])
TEKKEN = "|".join(
    [f"[^\\r\\n\\p{{L}}\\p{{N}}]?{CASED[0]}*{CASED[1]}+", f"[^\\r\\n\\p{{L}}\\p{{N}}]?{CASED[0]}+{CASED[1]}*",
     "\\p{N}", " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*", SPACES])


def split(*patterns, behavior="Isolated", invert=False):
    steps = [{"type": "Split", "pattern": {"Regex": p}, "behavior": behavior, "invert": invert} for p in patterns]
    return {"type": "Sequence", "pretokenizers": steps}


def then(sequence, *steps):
    return {"type": "Sequence", "pretokenizers": sequence["pretokenizers"] + list(steps)}


DIGITS = {"type": "Digits", "individual_digits": True}
GPT2_STEP = {**BYTE_LEVEL, "use_regex": True}
DEEPSEEK = split("[\r\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", "[一-龥ࠀ-一가-퟿]+")


def metaspace(scheme, cut):
    step = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": cut}
    return {"normalizer": None, "pre_tokenizer": step, "decoder": step}


def files(vocab, merges, **parts):
    return {"vocab": vocab, "merges": merges, **parts}


# name -> where the tokenizer comes from and what is changed in it. "base" is a tokenizer.json; "files" are a vocabulary
# and a merge list to put into one. tests/runtime/tokenizer/_golden_files.ts does the same in TypeScript.
TOKENIZERS = {
    "gpt2": {"base": "gpt2/tokenizer.json"},
    "gpt-neox": {"base": "gpt-neox/tokenizer.json"},
    "phi-3": {"base": "phi-3/tokenizer.json"},
    # The file's merges with three spaces in a row are refused by the library.
    "llama2": {"base": "llama2/tokenizer.json", "dropMerges": True},
    "qwen2.5": {"files": files("qwen2.5/vocab.json", "qwen2.5/merges.txt", config="qwen2.5/tokenizer_config.json"),
                "patch": {"normalizer": {"type": "NFC"}, "pre_tokenizer": then(split(QWEN2), BYTE_LEVEL)}},
    "llama3": {"files": files("llama3/encoder.json", "llama3/vocab.bpe", ignoreMerges=True,
                              special={"<|begin_of_text|>": 128000, "<|end_of_text|>": 128001}),
               "patch": {"pre_tokenizer": then(split(LLAMA3), BYTE_LEVEL),
                         "post_processor": {"type": "TemplateProcessing", "pair": [], "single": [
                             {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                             "special_tokens": {"<|begin_of_text|>": {
                                 "id": "<|begin_of_text|>", "ids": [128000], "tokens": ["<|begin_of_text|>"]}}}}},
    "gpt2 as smollm": {"base": "gpt2/tokenizer.json", "patch": {"pre_tokenizer": then({"pretokenizers": []}, DIGITS, GPT2_STEP)}},
    "gpt2 with runs of digits": {"base": "gpt2/tokenizer.json", "patch": {
        "pre_tokenizer": then({"pretokenizers": []}, {**DIGITS, "individual_digits": False}, GPT2_STEP)}},
    "gpt2 with prefix space": {"base": "gpt2/tokenizer.json", "patch": {"pre_tokenizer": {**GPT2_STEP, "add_prefix_space": True}}},
    "gpt2 as llama3": {"base": "gpt2/tokenizer.json", "patch": {
        "pre_tokenizer": then(split(LLAMA3, behavior="Removed", invert=True), BYTE_LEVEL)}},
    "gpt2 as cl100k": {"base": "gpt2/tokenizer.json", "patch": {"pre_tokenizer": then(split(CL100K), BYTE_LEVEL)}},
    "gpt2 as o200k": {"base": "gpt2/tokenizer.json", "patch": {"pre_tokenizer": then(split(O200K), BYTE_LEVEL)}},
    "gpt2 as tekken": {"base": "gpt2/tokenizer.json", "patch": {"pre_tokenizer": then(split(TEKKEN), BYTE_LEVEL)}},
    "gpt2 as deepseek-coder": {"base": "gpt2/tokenizer.json", "patch": {"pre_tokenizer": then(DEEPSEEK, DIGITS, BYTE_LEVEL)}},
    "phi-3 with metaspace always": {"base": "phi-3/tokenizer.json", "patch": metaspace("always", False)},
    "phi-3 with metaspace first": {"base": "phi-3/tokenizer.json", "patch": metaspace("first", False)},
    "phi-3 with metaspace words": {"base": "phi-3/tokenizer.json", "patch": metaspace("first", True)},
    "phi-3 with metaspace never": {"base": "phi-3/tokenizer.json", "patch": metaspace("never", True)},
    "gpt2 with flags": {"base": "gpt2/tokenizer.json", "patch": {"added_tokens": [
        {"id": 50256, "content": "<|endoftext|>", **ENDOFTEXT, "lstrip": True, "rstrip": True},
        {"id": 50257, "content": "Hello world", **ENDOFTEXT, "special": False, "single_word": True},
        {"id": 50258, "content": "aïve", **ENDOFTEXT, "special": False, "single_word": True},
        {"id": 50259, "content": "façade", **ENDOFTEXT, "special": False, "single_word": True, "lstrip": True},
        {"id": 50260, "content": "] hi", **ENDOFTEXT, "special": False},
        {"id": 50261, "content": "] hi [", **ENDOFTEXT, "special": False, "rstrip": True}]}},
}


def load(spec):
    if "base" in spec:
        tokenizer = json.load(open(ROOT + spec["base"], encoding="utf-8"))
    else:
        tokenizer = assemble(spec["files"])
    if spec.get("dropMerges"):
        tokenizer["model"]["merges"] = [m for m in tokenizer["model"]["merges"] if m.count(" ") == 1]
    tokenizer.update(copy.deepcopy(spec.get("patch", {})))
    return Tokenizer.from_str(json.dumps(tokenizer))


def assemble(parts):
    vocab = json.load(open(ROOT + parts["vocab"], encoding="utf-8"))
    lines = open(ROOT + parts["merges"], encoding="utf-8").read().split("\n")
    merges = [line for line in lines if line and not line.startswith("#version")]
    special = {content: {"id": token, **ENDOFTEXT} for content, token in parts.get("special", {}).items()}
    if "config" in parts:
        decoder = json.load(open(ROOT + parts["config"], encoding="utf-8"))["added_tokens_decoder"]
        special = {entry["content"]: {"id": int(token), **entry} for token, entry in decoder.items()}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": None,
        "post_processor": None, "added_tokens": [{"content": content, **entry} for content, entry in special.items()],
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": parts.get("ignoreMerges", False),
                  "vocab": vocab, "merges": merges},
    }


def cases(tokenizer):
    for text in TEXTS:
        tokenizer.encode_special_tokens = False
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = True
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        decoded = tokenizer.decode(ids, skip_special_tokens=True)
        yield {"text": text, "ids": ids, **({} if plain == ids else {"plain": plain}),
               **({} if decoded == text else {"decoded": decoded})}


def main():
    with open(__file__.replace("make_tokenizers.py", "tokenizers.json"), "w", encoding="utf-8") as out:
        out.write("{\n")
        for i, (name, spec) in enumerate(TOKENIZERS.items()):
            lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases(load(spec)))
            body = f'"spec":{json.dumps(spec)},\n"cases":[\n{lines}\n]'
            out.write(f'{"," if i else ""}{json.dumps(name)}:{{{body}}}\n')
        out.write("}\n")


if __name__ == "__main__":
    main()
