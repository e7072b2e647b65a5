"""Fine-tunes a model under SepLLM's mask: sinks, separators and a window are all that a token sees.

    python sepllm.py --model ../../decant-tiny --data DIR/train.npz --val DIR/val.npz --out FOLDER

SepLLM (arXiv 2412.12094) trained: the same mask in training as in use, no extra weights. All weights
move, so the result is a model of its own (a Hugging Face folder), bound to its window and sinks: any
other policy, the full cache included, is a worse one for it. The mask is learned on short rows first;
rows get longer once it has been.
"""

import argparse
import json
import os
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

import common

sys.path.append(os.path.join(os.path.dirname(__file__), ".."))
import train  # noqa: E402  its optimiser

MIX = dict(recall=.35, recall_mid=.2, json=.08, sql=.06, qa=.06, copy=.06, sort=.03, add_steps=.06, story=.1)
# Rows of at most so many tokens, rows a step, share of the steps.
STAGES = ((64, 32, .4), (128, 16, .3), (288, 8, .3))
MARKS = set(b"., ?!;:\n\t\r")
HF = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
      "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
      "norm1": "input_layernorm", "norm2": "post_attention_layernorm", "qn": "self_attn.q_norm",
      "kn": "self_attn.k_norm"}


def separators(folder):
    """[vocab] 1 for tokens of marks and white space alone, as the gateway finds them (byte-level BPE)."""
    data = json.load(open(os.path.join(folder, "tokenizer.json"), encoding="utf-8"))
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]  # bytes that stand for themselves
    byte = {chr(b): b for b in shown}
    byte |= {chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in shown)}
    special = {t["id"] for t in data["added_tokens"]}
    ids = {**data["model"]["vocab"], **{t["content"]: t["id"] for t in data["added_tokens"]}}
    out = np.zeros(max(ids.values()) + 1, np.float32)
    for text, i in ids.items():
        out[i] = i not in special and all(byte[ch] in MARKS for ch in text)
    return jnp.asarray(out)


def visibility(tokens, marks, sinks, window):
    """tokens [B, T] -> who sees whom [B, 1, T (row), T (column)], causality aside."""
    at = jnp.arange(tokens.shape[1])
    near = at[:, None] - at < window
    return jnp.maximum(near, jnp.maximum(at < sinks, marks[tokens])[:, None])[:, None]


class Short(common.Data):
    """Samples of at most `most` tokens, so that no answer is cut off."""

    def limit(self, most):
        self.kept = {n: r[self.length[r] <= most] for n, r in self.all.items()}
        self.rows = {n: r for n, r in self.kept.items() if len(r) > 50}
        self.mix = {n: x for n, x in MIX.items() if n in self.rows}

    def __init__(self, path, seed):
        super().__init__(path, MIX, seed)
        self.all = self.rows


def make_loss(c, marks, sinks, window):
    def loss(params, batch, _):
        tokens, learn = batch["tokens"], batch["learn"]
        mask = visibility(tokens, marks, sinks, window)
        w = dict(params, head=params["embed"])
        logits, _ = common.forward(w, c, tokens, lambda i, x, k: mask)
        nll = -jnp.take_along_axis(jax.nn.log_softmax(logits[:, :-1]), tokens[:, 1:, None], 2)[..., 0]
        value = (nll * learn[:, :-1]).sum() / jnp.maximum(learn.sum(), 1)
        return value, dict(loss=value)
    return loss


def muon(params, grads, m, v, step, lr):
    """Muon for the matrices of layers, Adam for the rest, as in the model's own training; lr is relative."""
    norm = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(grads)))
    grads = jax.tree.map(lambda g: g * jnp.minimum(1.0, 1.0 / (norm + 1e-9)), grads)
    part = lambda tree: {k: x for k, x in tree.items() if k != "layers"}
    layers = train.update(params["layers"], grads["layers"], m["layers"], v["layers"], step, lr)
    rest = common.adam(part(params), part(grads), part(m), part(v), step, 0.0015 * lr)
    return tuple(dict(a, layers=b) for a, b in zip(rest, layers))


def check(forms, c, marks, a):
    """Teacher-forced answers right per task for {name: (weights, masked or not)}, and the share kept."""
    z = np.load(a.val)
    names = [str(x) for x in z["names"]]
    tokens, mark, start, task = z["tokens"], z["mark"], z["start"], z["task"]
    T, table = 288, {}

    def run(w, masked):
        mask = lambda t: visibility(t, marks, a.sinks, a.window)
        return jax.jit(lambda t: common.forward(w, c, t, (lambda i, x, k: mask(t)) if masked else None)[0])

    steps = {name: run(*form) for name, form in forms.items()}
    for name in ("recall", "recall_mid", "json", "sql", "qa", "copy", "add_steps", "story"):
        rows = [i for i in np.flatnonzero(task == names.index(name)) if start[i + 1] - start[i] <= T]
        rows = rows[:a.samples - a.samples % 4]
        cells = {}
        for form, step in steps.items():
            right, lost, share = [], [], []
            for at in range(0, len(rows) - len(rows) % 4, 4):
                t = np.zeros((4, T), np.int32)
                for j, i in enumerate(rows[at:at + 4]):
                    t[j, :start[i + 1] - start[i]] = tokens[start[i]:start[i + 1]]
                lp = np.asarray(jax.nn.log_softmax(step(t)))
                for j, i in enumerate(rows[at:at + 4]):
                    n = start[i + 1] - start[i]
                    hit = np.flatnonzero(mark[start[i] + 1:start[i] + n])
                    right.append(bool((lp[j, hit].argmax(-1) == t[j, hit + 1]).all()))
                    lost.append(-lp[j, hit, t[j, hit + 1]].mean())
                    kept = (np.asarray(marks)[t[j, :n]] > 0) | (np.arange(n) < a.sinks) | (np.arange(n) > n - 1 - a.window)
                    share.append(kept.mean())
            cells[form] = round(float(np.mean(lost)), 4) if name == "story" else f"{sum(right)}/{len(right)}"
        table[name] = dict(cells, kept=round(float(np.mean(share)), 3))
        print(f"{name:12}" + "  ".join(f"{k} {v}" for k, v in table[name].items()), flush=True)
    return table


def write(params, a):
    """A copy of the model's folder with the new weights, f16; its metadata says what they are bound to."""
    os.makedirs(a.out, exist_ok=True)
    for name in os.listdir(a.model):
        if name.endswith(".json"):
            shutil.copy(os.path.join(a.model, name), a.out)
    out = {"model.embed_tokens.weight": params["embed"], "model.norm.weight": params["norm"]}
    for i, layer in enumerate(params["layers"]):
        for k, v in layer.items():
            name, part = (k[:-5], "bias") if k.endswith("_bias") else (k, "weight")
            out[f"model.layers.{i}.{HF[name]}.{part}"] = v
    save_file({k: np.asarray(v).astype(np.float16) for k, v in out.items()},
              os.path.join(a.out, "model.safetensors"),
              {"format": "pt", "kv_policy": json.dumps(dict(name="sepllm", sinks=a.sinks, window=a.window))})


def main(a):
    w, c, _ = common.read_model(a.model)
    if w["head"] is not w["embed"]:
        raise SystemExit("only models whose output matrix is the embedding")
    marks = separators(a.model)
    before = {k: w[k] for k in ("embed", "norm", "layers")}
    data, params = Short(a.data, a.seed), before
    for stage, (length, rows, share) in enumerate(STAGES):
        data.limit(length)
        print(f"rows of {length}: " + ", ".join(data.mix))

        def batches():
            while True:
                yield data.batch(rows, length)

        loss = make_loss(c, marks, a.sinks, a.window)
        last = stage + 1 == len(STAGES)
        params = common.fit(params, loss, batches(), round(a.steps * share), a.rate, update=muon, falls=last)
        write(params, a)
    after = dict(params, head=params["embed"])
    table = check(dict(full=(w, False), untrained=(w, True), trained=(after, True),
                       trained_full_cache=(after, False)), c, marks, a)
    if a.json:
        json.dump(dict(sinks=a.sinks, window=a.window, steps=a.steps, seed=a.seed, tasks=table), open(a.json, "w"))


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--model", required=True)
    p.add_argument("--data", required=True, help="train.npz written by encode.py")
    p.add_argument("--val", required=True, help="val.npz written by encode.py")
    p.add_argument("--out", required=True, help="folder of the new model")
    p.add_argument("--sinks", type=int, default=3)
    p.add_argument("--window", type=int, default=16)
    p.add_argument("--steps", type=int, default=800)
    p.add_argument("--rate", type=float, default=0.3, help="relative to the model's own training")
    p.add_argument("--samples", type=int, default=200)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--json", help="writes the figures of the check")
    main(p.parse_args())
