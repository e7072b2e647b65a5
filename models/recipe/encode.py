"""Turns JSON-lines shards and stories into arrays for train.py.

    python encode.py --stories DIR --data DIR --tokenizer tokenizer.json [--template llama3]

Writes DIR/train.npz and DIR/val.npz: tokens, mark (1 where the token is learned), start, task, names.
"""

import argparse
import json
import os
import re

import numpy as np
from tokenizers import Tokenizer

import stories


# begin: before a chat; user: before a user's turn; reply: before the answer; stop: after it; next: before
# the next turn; open and end: around plain text.
TEMPLATES = {
    "chatml": dict(begin="", user="<|im_start|>user\n", reply="<|im_end|>\n<|im_start|>assistant\n", stop="<|im_end|>",
                   next="\n", open="<|endoftext|>", end="<|endoftext|>"),
    "llama3": dict(begin="<|begin_of_text|>", user="<|start_header_id|>user<|end_header_id|>\n\n",
                   reply="<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", stop="<|eot_id|>",
                   next="", open="<|begin_of_text|>", end="<|end_of_text|>"),
}
template = TEMPLATES["chatml"]


def chat(user):
    return template["user"] + user + template["reply"]


def turns(messages):
    """Texts of a chat, prompt and answer in turn."""
    out = []
    for user, assistant in zip(messages[::2], messages[1::2]):
        before = template["next" if out else "begin"]
        out += [before + chat(user["content"]), assistant["content"] + template["stop"]]
    return out


def story_samples(texts):
    """Plain stories, and every third one as "continue this story"; "chat_story" marks the rest only."""
    for i, text in enumerate(texts):
        yield "story", ["", template["open"] + text + template["end"]]
        first = re.match(r".+?[.!?]\"?\s", text)
        if i % 3 == 0 and first:
            rest = text[first.end():]
            yield "chat_story", [
                template["begin"] + chat(f"Continue this story: {first[0].strip()}"), rest + template["stop"]]


def task_samples(path):
    for line in open(path, encoding="utf-8"):
        sample = json.loads(line)
        yield sample["task"], turns(sample["messages"])


def encode(tokenizer, samples, out):
    names, tokens, mark, start, task = [], [], [], [0], []
    kind = np.uint16 if tokenizer.get_vocab_size() <= 1 << 16 else np.uint32
    samples = list(samples)
    for a in range(0, len(samples), 20_000):
        part = samples[a:a + 20_000]
        pieces = iter(tokenizer.encode_batch(
            [text for _, texts in part for text in texts], add_special_tokens=False))
        for name, texts in part:
            if name not in names:
                names.append(name)
            ids = [next(pieces).ids for _ in texts]
            tokens.append(np.array([t for x in ids for t in x], kind))
            mark.append(np.array([i % 2 for i, x in enumerate(ids) for _ in x], np.uint8))
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
    global template
    template = TEMPLATES[args.template]
    tokenizer = Tokenizer.from_file(args.tokenizer)
    missing = [x for x in (template["stop"], template["end"]) if tokenizer.token_to_id(x) is None]
    if missing:
        raise SystemExit(f"the tokenizer has no {', '.join(missing)}: another --template?")
    train, valid = stories.load(args.stories)
    for split, texts in (("val", valid), ("train", train)):
        samples = [*task_samples(os.path.join(args.data, split + ".jsonl")), *story_samples(texts)]
        encode(tokenizer, samples, os.path.join(args.data, split + ".npz"))


if __name__ == "__main__":
    a = argparse.ArgumentParser()
    a.add_argument("--stories", required=True)
    a.add_argument("--data", required=True)
    a.add_argument("--tokenizer", required=True)
    a.add_argument("--template", choices=sorted(TEMPLATES), default="chatml")
    main(a.parse_args())
