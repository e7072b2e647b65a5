"""Masked reference check of a NAtS or TokenButler adapter: answers right, story loss, kept or read share.

    python check.py --model ../../decant-tiny --val DIR/val.npz --adapter FILE [--samples 100] [--budget 32]

Teacher-forced (an answer counts if every token is the arg max), dense attention with the policy's
mask, so it is a quick look and no substitute for the gateway's own benchmark. "shuffled" permutes the
decisions in time: a control that has to fail where facts must be found.
"""

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import safe_open

import common
import nats
import token_butler

TASKS = ["recall", "recall_mid", "recall_long", "json", "sql", "qa", "copy", "add_steps", "story"]


def places(noise, length):
    """noise [T - 1], length [B] -> [B, T - 1]: the places 1 .. length - 1 in random order, then padding."""
    at = 1 + jnp.arange(len(noise))
    return at[jnp.argsort(noise + (at >= length[:, None]), -1)]


def nats_mask(get, meta, c, shuffle):
    window, shares = int(meta["window"]), []

    def mask(i, x, length):
        logits = nats.route(get(f"nats.layers.{i}.router.weight"), x, c["kv"])
        types = nats.one_hot(logits, length, None)
        at = jnp.arange(x.shape[1])
        types = jnp.where((at == length[:, None] - 1)[:, None, :, None] & (at > 0)[:, None],
                          jax.nn.one_hot(logits.argmax(-1), 3), types)  # no forced end when serving
        if shuffle is not None:
            order = places(shuffle, length)[:, None, :, None]
            types = types.at[:, :, 1:].set(jnp.take_along_axis(types, order, 2))
        shares.append(nats.kept(types, length, window))
        return nats.visibility(types, window)
    return mask, shares


def butler_mask(get, meta, c, shuffle, budget, sinks=1, window=8):
    dim, shares, held = int(meta["dim"]), [], {}

    def mask(i, x, length, k):
        T = x.shape[1]
        if i == 0:
            held["x"] = x
            return jnp.ones((1, 1, T, T))
        at = f"token_butler.producers.{i - 1}."
        p = {n: get(f"{at}{n}.weight") for n in ("norm", "gate", "up", "down")}
        p["keys"] = get(f"token_butler.layers.{i}.key_proj")
        s = token_butler.scores(p, held["x"], k, c, dim)
        held["x"] = x
        if shuffle is not None:
            order = places(shuffle, length)[:, None, None, :]
            s = s.at[..., 1:].set(jnp.take_along_axis(s, order, 3))
        row, col = jnp.arange(T)[:, None], jnp.arange(T)
        s = jnp.where((col < sinks) | (row - col < window), 1e9, s)
        s = jnp.where(col <= row, s, -jnp.inf)
        bar = jnp.sort(s, -1)[..., -budget][..., None]
        visible = (s >= bar) * 1.0
        seen = (visible * (col <= row)).sum(-1)  # [B, K, T]
        last = jnp.take_along_axis(seen, (length - 1)[:, None, None], 2)
        shares.append((last[..., 0] / length[:, None]).mean())
        return visible
    return mask, shares


def main(a):
    w, c, _ = common.read_model(a.model)
    f = safe_open(a.adapter, "numpy")
    meta, get = f.metadata(), lambda name: jnp.asarray(f.get_tensor(name))
    z = np.load(a.val)
    names = [str(x) for x in z["names"]]
    tokens, mark, start, task = z["tokens"], z["mark"], z["start"], z["task"]
    orders = {T: np.random.default_rng(0).uniform(size=T - 1) for T in (288, 1024)}

    def run(kind, T):
        def f(t, n):
            shuffle = orders[T] if kind == "shuffled" else None
            if kind == "full":
                return common.forward(w, c, t)[0], jnp.float32(1)
            if meta["method"] == "nats":
                mask, shares = nats_mask(get, meta, c, shuffle)
                logits, _ = common.forward(w, c, t, lambda i, x, _: mask(i, x, n))
            else:
                mask, shares = butler_mask(get, meta, c, shuffle, a.budget)
                logits, _ = common.forward(w, c, t, lambda i, x, k: mask(i, x, n, k))
            return logits, sum(shares) / len(shares)
        return jax.jit(f)

    print(f"{'task':12}" + "".join(f"{k:>20}" for k in ("full", "adapter", "shuffled")))
    table = {}
    for name in TASKS:
        T = 1024 if name == "recall_long" else 288
        rows = [i for i in np.flatnonzero(task == names.index(name)) if start[i + 1] - start[i] <= T][:a.samples]
        cells = []
        for kind in ("full", "adapter", "shuffled"):
            step, right, lost, shares = run(kind, T), [], [], []
            B = 1 if T > 512 else 4
            for at in range(0, len(rows) - len(rows) % B, B):
                t, n = np.zeros((B, T), np.int32), np.zeros(B, np.int32)
                for j, i in enumerate(rows[at:at + B]):
                    n[j] = start[i + 1] - start[i]
                    t[j, :n[j]] = tokens[start[i]:start[i + 1]]
                logits, share = step(t, n)
                lp = np.asarray(jax.nn.log_softmax(logits))
                shares.append(float(share))
                for j, i in enumerate(rows[at:at + B]):
                    hit = np.flatnonzero(mark[start[i] + 1:start[i + 1]])
                    right.append(bool((lp[j, hit].argmax(-1) == t[j, hit + 1]).all()))
                    lost.append(-lp[j, hit, t[j, hit + 1]].mean())
            value = f"loss {np.mean(lost):.3f}" if name == "story" else f"{100 * np.mean(right):.1f} %"
            cells.append(f"{value} @{np.mean(shares):.3f}")
        print(f"{name:12}" + "".join(f"{x:>20}" for x in cells), flush=True)
        table[name] = cells
    if a.json:
        json.dump(table, open(a.json, "w"))


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--model", required=True)
    p.add_argument("--val", required=True)
    p.add_argument("--adapter", required=True)
    p.add_argument("--samples", type=int, default=100)
    p.add_argument("--budget", type=int, default=32, help="tokens read per KV head (TokenButler)")
    p.add_argument("--json")
    main(p.parse_args())
