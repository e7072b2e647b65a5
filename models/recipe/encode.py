"""Turns JSON-lines shards and stories into arrays for train.py.

    python encode.py --stories DIR --data DIR --tokenizer tokenizer.json

Writes DIR/train.npz and DIR/val.npz: tokens, mark (1 where the token is learned), start, task, names.
"""

import argparse
import json
import os
import re

import numpy as np
from tokenizers import Tokenizer

import stories


def chat(user):
    return f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"


def story_samples(texts):
    """Plain stories, and every third one as "continue this story"; "chat_story" marks the rest only."""
    for i, text in enumerate(texts):
        yield "story", "", f"<|endoftext|>{text}<|endoftext|>"
        first = re.match(r".+?[.!?]\"?\s", text)
        if i % 3 == 0 and first:
            rest = text[first.end():]
            yield "chat_story", chat(f"Continue this story: {first[0].strip()}"), f"{rest}<|im_end|>"


def task_samples(path):
    for line in open(path, encoding="utf-8"):
        sample = json.loads(line)
        yield sample["task"], chat(sample["messages"][0]["content"]), sample["messages"][1]["content"] + "<|im_end|>"


def encode(tokenizer, samples, out):
    names, tokens, mark, start, task = [], [], [], [0], []
    samples = list(samples)
    for a in range(0, len(samples), 20_000):
        part = samples[a:a + 20_000]
        before = tokenizer.encode_batch([s[1] for s in part])
        after = tokenizer.encode_batch([s[2] for s in part])
        for (name, _, _), x, y in zip(part, before, after):
            if name not in names:
                names.append(name)
            tokens.append(np.array(x.ids + y.ids, np.uint16))
            mark.append(np.array([0] * len(x.ids) + [1] * len(y.ids), np.uint8))
            start.append(start[-1] + len(tokens[-1]))
            task.append(names.index(name))
        print(f"{out}: {a + len(part):,} of {len(samples):,} samples", flush=True)
    np.savez(out, tokens=np.concatenate(tokens), mark=np.concatenate(mark), start=np.array(start),
             task=np.array(task, np.uint8), names=np.array(names))
    length = np.diff(start)
    for i, name in enumerate(names):
        n = length[np.array(task) == i]
        print(f"  {name}: {len(n):,} samples, {n.sum():,} tokens, mean {n.mean():.0f}, longest {n.max()}")


def main(args):
    tokenizer = Tokenizer.from_file(args.tokenizer)
    train, valid = stories.load(args.stories)
    for split, texts in (("val", valid), ("train", train)):
        samples = [*task_samples(os.path.join(args.data, split + ".jsonl")), *story_samples(texts)]
        encode(tokenizer, samples, os.path.join(args.data, split + ".npz"))


if __name__ == "__main__":
    a = argparse.ArgumentParser()
    a.add_argument("--stories", required=True)
    a.add_argument("--data", required=True)
    a.add_argument("--tokenizer", required=True)
    main(a.parse_args())
