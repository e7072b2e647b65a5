"""Writes reference values of an exported model and of its tokenizer for the tests.

    python golden.py --model ../decant-tiny --out ../../tests/golden

Reads the folder as any loader would (float16 weights from safetensors) and computes in float64 with
plain NumPy, independently of train.py.
"""

import argparse
import json
import os

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

PROMPTS = [
    "Once upon a time",
    "<|im_start|>user\nWhat is 47 + 38?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nFacts: fish = red. mouse = sad. Tom went to the park with a big boat. goat = 417. river = tall.\n"
    "What is goat?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nExtract the record as JSON.\nAnna Lopez from Oslo is a baker and 41 years old.<|im_end|>\n"
    "<|im_start|>assistant\n",
]
STRINGS = [
    "", " ", "  ", "\n", "\n\n", "\t", " \n ", "a", " a", "A", " A", "hello world", "Hello World", "Once upon a time",
    "Mia and Tom went to Paris.", "it's we're I'LL don't", "3.14159", "2024-11-24", " 42", "12 + 34 = 46",
    "price: $9.99!", "x=1;y=2", '{"name":"Mia","age":7}', "SELECT name FROM people WHERE age > 30", "snake_case camelCase",
    "trailing space ", "  leading", "tabs\tand\nlines\r\nend", "caf\u00e9", "cafe\u0301", "na\u00efve \u00fcber Stra\u00dfe",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30b9\u30c8", "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440",
    "\u0645\u0631\u062d\u0628\u0627", "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467", "\u0663\u0664 \u00bd \u2167",
    "\u00a0nbsp\u2003em", "<|im_start|>user\nhi<|im_end|>\n", "<|endoftext|>", "<|im_start", "a<|im_end|>b", "\u0000\u0001",
    "....!!!???", "ffff    ffff",
]


def forward(w, c, ids):
    """All logits [T, vocab] of a Hugging Face Llama with tied embeddings."""
    H, K, D = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
    T = len(ids)
    rms = lambda x, g: x / np.sqrt((x * x).mean(-1, keepdims=True) + c["rms_norm_eps"]) * g
    angle = np.arange(T)[:, None] * c["rope_theta"] ** (-np.arange(0, D, 2) / D)
    cos, sin = (np.concatenate([f(angle)] * 2, -1)[:, None] for f in (np.cos, np.sin))
    turn = lambda x: x * cos + np.concatenate([-x[..., D // 2:], x[..., :D // 2]], -1) * sin
    x = w["model.embed_tokens.weight"][ids]
    for i in range(c["num_hidden_layers"]):
        get = lambda name: w[f"model.layers.{i}.{name}.weight"]
        h = rms(x, get("input_layernorm"))
        q = turn((h @ get("self_attn.q_proj").T).reshape(T, H, D))
        k = np.repeat(turn((h @ get("self_attn.k_proj").T).reshape(T, K, D)), H // K, 1)
        v = np.repeat((h @ get("self_attn.v_proj").T).reshape(T, K, D), H // K, 1)
        s = np.einsum("thd,shd->hts", q, k) / np.sqrt(D) + np.where(np.tri(T, dtype=bool), 0, -np.inf)
        a = np.exp(s - s.max(-1, keepdims=True))
        a = np.einsum("hts,shd->thd", a / a.sum(-1, keepdims=True), v).reshape(T, H * D)
        x = x + a @ get("self_attn.o_proj").T
        h = rms(x, get("post_attention_layernorm"))
        gate = h @ get("mlp.gate_proj").T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ get("mlp.up_proj").T)) @ get("mlp.down_proj").T
    return rms(x, w["model.norm.weight"]) @ w["model.embed_tokens.weight"].T


def main(args):
    name = os.path.basename(os.path.normpath(args.model)).replace("-", "_")
    c = json.load(open(os.path.join(args.model, "config.json")))
    w = {k: v.astype(np.float64) for k, v in load_file(os.path.join(args.model, "model.safetensors")).items()}
    tokenizer = Tokenizer.from_file(os.path.join(args.model, "tokenizer.json"))
    cases = []
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt).ids
        last = forward(w, c, ids)[-1]
        top = np.argsort(-last, kind="stable")[:10]
        longer, margin = list(ids), float("inf")
        for _ in range(32):
            row = forward(w, c, longer)[-1]
            best = np.sort(row)[-2:]
            margin = min(margin, float(best[1] - best[0]))
            longer.append(int(row.argmax()))
        cases.append({"prompt": prompt, "ids": ids, "top": [[int(t), round(float(last[t]), 5)] for t in top],
                      "greedy": longer[len(ids):], "smallest_margin": round(margin, 5)})
    note = ("Float64 NumPy forward pass over the exported float16 weights, written by models/recipe/golden.py. "
            "top: [token id, logit] at the last prompt position. greedy: 32 ids, going on past stop tokens. "
            "smallest_margin: least gap between best and second logit on the way.")
    write(os.path.join(args.out, f"{name}.json"), {"note": note, "cases": cases})
    plain = [{"text": s, "ids": tokenizer_plain(tokenizer, s), "special": tokenizer.encode(s).ids} for s in STRINGS]
    note = ("ids: the text with control tokens as plain text; special: control tokens recognised. Written by "
            "models/recipe/golden.py with the Python tokenizers library.")
    write(os.path.join(args.out, "decant_tokenizer.json"), {"note": note, "cases": plain})


def tokenizer_plain(tokenizer, text):
    """Encodes with control tokens taken apart like any other text."""
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = []
    return Tokenizer.from_str(json.dumps(state)).encode(text).ids


def write(path, value):
    with open(path, "w", encoding="utf-8") as f:
        cases = ",\n".join("  " + json.dumps(case) for case in value["cases"])
        f.write('{\n "note": ' + json.dumps(value["note"]) + ',\n "cases": [\n' + cases + "\n ]\n}\n")


if __name__ == "__main__":
    a = argparse.ArgumentParser()
    a.add_argument("--model", required=True)
    a.add_argument("--out", required=True)
    main(a.parse_args())
