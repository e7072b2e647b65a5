"""Trains the shared byte-level BPE tokenizer and writes it as Hugging Face files.

    python train_tokenizer.py --stories DIR --data DIR --out FOLDER...
"""

import argparse
import json
import os
import random
import re

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import stories

VOCAB = 2048
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# Pre-tokeniser of Qwen2: digits one by one.
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
         r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEMPLATE = ("{%- for message in messages %}"
            "{%- if message['role'] not in ['system', 'user', 'assistant'] %}"
            "{{- raise_exception('roles are system, user and assistant, not ' + message['role']) }}"
            "{%- endif %}"
            "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
            "{%- endfor %}"
            "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}")


def texts(stories_dir, data_dir):
    train, _ = stories.load(stories_dir)
    yield from train
    rng = random.Random(1)
    seen = {}
    for line in open(os.path.join(data_dir, "train.jsonl"), encoding="utf-8"):
        sample = json.loads(line)
        if seen.get(sample["task"], 0) < 3000 and rng.random() < 0.1:
            seen[sample["task"]] = seen.get(sample["task"], 0) + 1
            yield "\n".join(m["content"] for m in sample["messages"])


def main(args):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    # A space is never merged with a capital letter, so that a name has the same pieces after a
    # space, a quote and a line break, and can be copied between them.
    apart = lambda text: re.sub(r" (?=[A-Z])", "\n", text)
    tokenizer.train_from_iterator(map(apart, texts(args.stories, args.data)), trainer)
    assert tokenizer.get_vocab_size() == VOCAB
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": False,
        "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
        "model_max_length": 2048, "clean_up_tokenization_spaces": False, "chat_template": TEMPLATE,
        "added_tokens_decoder": {
            str(i): dict(content=t, special=True, lstrip=False, rstrip=False, normalized=False, single_word=False)
            for i, t in enumerate(SPECIAL)},
    }
    for folder in args.out:
        os.makedirs(folder, exist_ok=True)
        tokenizer.save(os.path.join(folder, "tokenizer.json"), pretty=False)
        with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
            json.dump(config, f, indent=2)
            f.write("\n")


if __name__ == "__main__":
    a = argparse.ArgumentParser()
    a.add_argument("--stories", required=True)
    a.add_argument("--data", required=True)
    a.add_argument("--out", nargs="+", required=True)
    main(a.parse_args())
