"""Trains AttentionPredictor's convolution on a frozen model's attention rows, and runs its gate.

    python attention_predictor.py --model ../../decant-tiny --data DIR/train.npz --val DIR/val.npz --out FILE

AttentionPredictor (arXiv 2502.04077): the last `history` attention rows, block maxima along the keys,
are an image [history, blocks]; conv 3x3 (1 -> 16), conv 3x3 (16 -> 32), mean over time, conv 1 (32 -> 1)
forecast the next row: 4,833 weights for all layers and heads. One row per KV head here (mean over its
query heads), layers from 1 on. Half of the images have sparse rows as decoding will see them, and half
begin with copies of a mean row, as the gateway's do where the prompt's rows stand.

Where we differ: what is forecast is a ranking, so the loss is the cross-entropy between the next row,
normalised over the candidate blocks, and the softmax of the scores (squared error of probabilities
spends itself on the few large ones); and training starts from a network that computes the mean of the
rows, its natural rival, instead of from random weights alone.

Gate: the forecast has to capture more of the true next row than copying the last row and than the
mean of the rows, on held-out samples.
"""

import argparse
import functools

import jax
import jax.numpy as jnp
import numpy as np

import common

MIX = dict(recall_mid=.3, recall=.1, json=.1, sql=.05, qa=.1, copy=.1, add_steps=.05, story=.2)


def init(seed):
    """Random, but for one channel that hands each place on as it is: its mean over time is the rival's."""
    a, b, c = jax.random.split(jax.random.PRNGKey(seed), 3)
    first, second = jax.random.normal(a, (16, 1, 3, 3)), jax.random.normal(b, (32, 16, 3, 3)) / 12
    mix = jax.random.normal(c, (1, 32, 1)) / 50
    first = first.at[0].set(0).at[0, 0, 1, 1].set(4)
    second = second.at[0].set(0).at[0, 0, 1, 1].set(4)
    return dict(conv1=dict(weight=first, bias=jnp.zeros(16)), conv2=dict(weight=second, bias=jnp.zeros(32)),
                conv3=dict(weight=mix.at[0, 0].set(1), bias=jnp.zeros(1)))


def forecast(p, image):
    """image [N, history, blocks] -> scores [N, blocks]."""
    conv = functools.partial(jax.lax.conv_general_dilated, window_strides=(1, 1), padding="SAME")
    x = jax.nn.relu(conv(image[:, None], p["conv1"]["weight"]) + p["conv1"]["bias"][:, None, None])
    x = jax.nn.relu(conv(x, p["conv2"]["weight"]) + p["conv2"]["bias"][:, None, None])
    x = x.mean(2)
    return jnp.einsum("ncb,oc->nb", x, p["conv3"]["weight"][..., 0]) + p["conv3"]["bias"]


class Rows:
    """Draws (image, next row, candidate mask) from the attention of whole samples."""

    def __init__(self, w, c, data, a):
        self.data, self.a, self.c = data, a, c
        watch = lambda i, x, q, k, p: p.mean(2)
        self.probs = jax.jit(lambda t: jnp.stack(common.forward(w, c, t, watch=watch)[1][1:], 1))

    def draw(self, count, steps=None):
        """-> image [count, history, blocks], target [count, blocks], candidates, answer row or not."""
        a, rng = self.a, self.data.rng
        T, nb = a.length, a.length // a.block
        image, target = np.zeros((count, a.history, nb), np.float32), np.zeros((count, nb), np.float32)
        open_, answer, at = np.zeros((count, nb), np.float32), np.zeros(count, bool), 0
        while at < count:
            batch = self.data.batch(4, T)
            probs = np.asarray(self.probs(batch["tokens"]))  # [B, layers, kv, T, T]
            rows = probs.reshape(*probs.shape[:4], nb, a.block).max(-1)
            for _ in range(64):
                b = rng.integers(4)
                low = a.history + 24
                if batch["length"][b] <= low + 1 or at >= count:
                    continue
                marked = np.flatnonzero(batch["learn"][b][low:batch["length"][b]])
                t = low + (rng.choice(marked) if len(marked) and rng.random() < .5
                           else rng.integers(batch["length"][b] - low))
                layer, head = rng.integers(rows.shape[1]), rng.integers(rows.shape[2])
                past, nxt = rows[b, layer, head, t - a.history:t].copy(), rows[b, layer, head, t]
                mean = probs[b, layer, head, t - a.history:t].mean(0).reshape(nb, a.block).max(1)
                candidates = np.zeros(nb)
                candidates[a.sinks // a.block:(t - a.window) // a.block] = 1
                if rng.random() < .5:  # rows as sparse decoding leaves them, every fifth one true
                    keep = np.argsort(-past * candidates, 1)[:, :4]
                    sparse = np.zeros_like(past)
                    np.put_along_axis(sparse, keep, np.take_along_axis(past, keep, 1), 1)
                    true = (np.arange(a.history) + rng.integers(5)) % 5 == 0
                    past = np.where(true[:, None], past, sparse)
                if rng.random() < .5:  # soon after the prompt, whose rows count as their mean
                    past[:rng.integers(1, a.history)] = mean
                image[at], target[at], open_[at] = past * candidates, nxt * candidates, candidates
                answer[at] = batch["learn"][b][t] > 0
                at += 1
        return dict(image=image, target=target, open=open_), answer


def loss(params, batch, _):
    scores = jnp.where(batch["open"] > 0, forecast(params, batch["image"]), -1e9)
    target = batch["target"] / jnp.maximum(batch["target"].sum(1, keepdims=True), 1e-9)
    value = -(target * jax.nn.log_softmax(scores)).sum(1).mean()
    return value, dict(cross_entropy=value)


def captured(score, batch, blocks=4):
    """Share of the true next row's block maxima that the best `blocks` hold, per image."""
    score = np.where(batch["open"] > 0, score, -np.inf)
    best = np.argsort(-score, 1)[:, :blocks]
    total = batch["target"].sum(1)
    return np.take_along_axis(batch["target"], best, 1).sum(1) / np.maximum(total, 1e-9)


def gate(params, rows, count):
    """-> {rows: {forecaster: share captured, half of its 95 % interval, lead of the net, half of its interval}}.

    Rows are `answers` (the next token is an answer's) and `all`; only images with a real choice count. All
    forecasters see the same images, so a lead is the mean of the differences image by image.
    """
    batch, answer = rows.draw(count)
    real = (batch["open"].sum(1) > 6) & (batch["target"].sum(1) > 0.02)
    forms = dict(net=np.asarray(forecast(params, batch["image"])), last_row=batch["image"][:, -1],
                 mean_rows=batch["image"].mean(1), max_recent=batch["image"][:, -5:].max(1),
                 oracle=batch["target"])
    shares = {name: captured(score, batch) for name, score in forms.items()}
    mean = lambda x: (float(x.mean()), float(1.96 * x.std() / len(x)**.5))
    return {kind: {name: (*mean(x[of]), *mean((shares["net"] - x)[of])) for name, x in shares.items()}
            for kind, of in dict(all=real, answers=real & answer).items()}


def report(found):
    """Prints what gate() found. -> whether the net leads all its rivals outside the intervals"""
    for kind, shares in found.items():
        for name, (mean, half, lead, around) in shares.items():
            print(f"  {kind}, {name}: {mean:.3f} +- {half:.3f} of the next row in 4 blocks"
                  + ("" if name == "net" else f"; net leads by {lead:.3f} +- {around:.3f}"))
    passed = all(lead > around for name, (_, _, lead, around) in found["all"].items() if name not in ("net", "oracle"))
    print("gate passed" if passed else "gate NOT passed: a simple forecaster does as well")
    return passed


def main(a):
    w, c, digest = common.read_model(a.model)
    rows = Rows(w, c, common.Data(a.data, MIX, a.seed), a)

    def batches():
        """From a pool of images; every eighth step some new ones take the oldest ones' places."""
        size, new = 1536, 128
        pool, _ = rows.draw(size)
        for step in range(10**9):
            if step % 8 == 7:
                at = step // 8 * new % size
                for name, x in rows.draw(new)[0].items():
                    pool[name][at:at + new] = x
            pick = rows.data.rng.integers(size, size=96)
            yield {k: x[pick] for k, x in pool.items()}

    params = common.fit(init(a.seed), loss, batches(), a.steps, 2e-3)
    found = gate(params, Rows(w, c, common.Data(a.val, MIX, a.seed + 1), a), 6000)
    passed = report(found)
    tensors = {f"{n}.{k}": x for n, p in params.items() for k, x in p.items()}
    shown = {kind: {n: round(x[0], 4) for n, x in shares.items()} for kind, shares in found.items()}
    common.export(a.out, tensors, dict(
        method="attention-predictor", block=a.block, history=a.history, dense_layers=[0], base_norms=digest,
        steps=a.steps, seed=a.seed, gate=shown, gate_passed=bool(passed)))


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--model", required=True)
    p.add_argument("--data", required=True, help="train.npz written by encode.py")
    p.add_argument("--val", required=True, help="val.npz written by encode.py")
    p.add_argument("--out", required=True)
    p.add_argument("--block", type=int, default=4)
    p.add_argument("--history", type=int, default=16)
    p.add_argument("--sinks", type=int, default=4)
    p.add_argument("--window", type=int, default=8)
    p.add_argument("--length", type=int, default=288)
    p.add_argument("--steps", type=int, default=1500)
    p.add_argument("--seed", type=int, default=0)
    main(p.parse_args())
