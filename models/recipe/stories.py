"""TinyStories text: splitting into stories and restoring the case of the lower-cased part."""

import collections
import os
import re


def split_stories(text):
    """One newline separates stories, a blank line separates paragraphs."""
    return [s.strip() for s in re.split(r"(?<!\n)\n(?!\n)", text) if len(s.strip()) > 40]


def names_of(cased):
    """Words that are capitalised in the middle of sentences nearly always."""
    upper, lower = collections.Counter(), collections.Counter()
    for word in re.findall(r"(?<=[a-z,] )[A-Za-z]+", cased):
        (upper if word[0].isupper() else lower)[word.lower()] += 1
    return {w for w, n in upper.items() if n >= 3 and n > 3 * lower[w]}


def recase(text, names):
    text = re.sub(r"\b[a-z]+\b", lambda m: m[0].capitalize() if m[0] in names else m[0], text)
    text = re.sub(r"\bi\b", "I", text)
    up = lambda m: m[1] + m[2].upper()
    text = re.sub(r"((?:^|[.!?]\"?\s+))([a-z])", up, text)
    return re.sub(r"((?:^|[\s])\")([a-z])", up, text)


def load(folder):
    """folder: the TinyStories files of the README -> (training stories, validation stories)."""
    read = lambda name: open(os.path.join(folder, name), encoding="utf-8").read()
    cased = read("tinystories-train-head.txt")
    first = split_stories(cased)
    names = names_of(cased)
    rest = split_stories(read("tinystories-train-head-lowercase.txt"))[len(first) - 1:]
    valid = re.split(r"\n\n(?=Once|One day)", read("tinystories-valid-part1.txt"))[1:-1]
    return first[:-1] + [recase(s, names) for s in rest[:-1]], valid
