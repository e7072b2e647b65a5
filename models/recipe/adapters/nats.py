"""Trains the NAtS router of a frozen model: each token's lifetime per KV head.

    python nats.py --model ../../decant-tiny --data DIR --out nats.safetensors [--weight 1] [--seed 0]

Neural Attention Search (arXiv 2502.13251): logits = x R^T with x the input of the attention block,
R [3 kvHeads, hidden] without bias, rows ordered head * 3 + type (0 global, 1 local, 2 window). Trained
with hard Gumbel types and straight-through masks against the full-cache model (KL of next-token
distributions on answer tokens), plus the sparsity term as a mean over layers, heads and tokens.
"""

import argparse

import jax
import jax.numpy as jnp

import common

MIX = dict(recall=.15, recall_mid=.3, recall_long=.2, json=.07, sql=.05, qa=.06, copy=.04, sort=.02, add_steps=.03, story=.08)


@jax.custom_vjp
def reopened(count):
    """1 where no global token stands between, 0 elsewhere: max(0, 1 - count).

    Backward: slope -1 wherever count <= 1. A clamp would pass no gradient where count = 1, although
    taking back that one global token would make the local one visible again.
    """
    return jnp.maximum(0.0, 1.0 - count)


reopened.defvjp(lambda count: (reopened(count), count), lambda count, g: (jnp.where(count <= 1, -g, 0.0),))


def visibility(types, window):
    """types [B, heads, T, 3] one-hot -> who sees whom [B, heads, T (row), T (column)]."""
    g, l, s = types[..., 0], types[..., 1], types[..., 2]
    T = g.shape[-1]
    run = jnp.cumsum(g, -1)
    before = run - g  # globals before each row
    count = before[..., :, None] - run[..., None, :]
    age = jnp.arange(T)[:, None] - jnp.arange(T)
    visible = g[..., None, :] + l[..., None, :] * reopened(count) + s[..., None, :] * (age <= window)
    return jnp.where(age == 0, 1.0, visible)


def one_hot(logits, length, key):
    """Hard types with soft gradients; the first and the last token are global. key None: arg max."""
    if key is not None:
        logits = logits + jax.random.gumbel(key, logits.shape)
    soft = jax.nn.softmax(logits, -1)
    hard = jax.nn.one_hot(logits.argmax(-1), 3)
    types = soft + jax.lax.stop_gradient(hard - soft)
    T = logits.shape[-2]
    at = jnp.arange(T)
    forced = (at == 0) | (at == length[:, None] - 1)
    return jnp.where(forced[:, None, :, None], jnp.array([1.0, 0, 0]), types)


def cost(types, length):
    """Mean of [g (T - i) + l (e - i)] / T, e the next global token (the sequence's end counts)."""
    T = types.shape[-2]
    at = jnp.arange(T)
    inside = (at < length[:, None])[:, None]
    g, l = types[..., 0], types[..., 1]
    ends = jnp.where((jax.lax.stop_gradient(g) > 0.5) | (at == length[:, None] - 1)[:, None], at, T)
    closing = jnp.flip(jax.lax.cummin(jnp.flip(ends, -1), axis=ends.ndim - 1), -1)
    n = length[:, None, None]
    term = (g * (n - at) + l * jnp.maximum(closing - at, 0)) / n
    return (term * inside).sum() / (inside.sum() * types.shape[1])


def kept(types, length, window):
    """Share of tokens the last row sees, mean over rows and heads."""
    last = jnp.take_along_axis(visibility(types, window), (length - 1)[:, None, None, None], 2)[:, :, 0]
    inside = jnp.arange(types.shape[-2]) < length[:, None, None]
    causal = jnp.where(inside, last, 0).sum(-1)
    return (causal / length[:, None]).mean()


def route(router, x, kv):
    B, T, _ = x.shape
    return (jax.lax.stop_gradient(x) @ router.T).reshape(B, T, kv, 3).transpose(0, 2, 1, 3)


def make_loss(w, c, window, weight):
    def loss(params, batch, key):
        tokens, length = batch["tokens"], batch["length"]
        teacher = jax.nn.log_softmax(jax.lax.stop_gradient(common.forward(w, c, tokens)[0]))
        keys, spent, shares = jax.random.split(key, c["layers"]), [], []

        def mask(i, x, _):
            types = one_hot(route(params[i], x, c["kv"]), length, keys[i])
            spent.append(cost(types, length))
            shares.append(kept(jax.lax.stop_gradient(types), length, window))
            return visibility(types, window)

        student = jax.nn.log_softmax(common.forward(w, c, tokens, mask)[0])
        learn = batch["learn"]
        kl = ((jnp.exp(teacher) * (teacher - student)).sum(-1) * learn).sum() / jnp.maximum(learn.sum(), 1)
        sparsity = sum(spent) / len(spent)
        return kl + weight * sparsity, dict(kl=kl, sparsity=sparsity, kept=sum(shares) / len(shares))
    return loss


def main(a):
    w, c, digest = common.read_model(a.model)
    keys = jax.random.split(jax.random.PRNGKey(a.seed), c["layers"])
    params = [jax.random.normal(k, (3 * c["kv"], c["hidden"])) * 0.02 for k in keys]
    mix = dict(recall_mid=.5, recall=.2, recall_long=.3) if a.only_recall else MIX
    data = common.Data(a.data, mix, a.seed)

    def batches():
        while True:
            yield data.batch(*((1, a.long) if data.rng.random() < 0.15 else (a.batch, a.length)))

    params = common.fit(params, make_loss(w, c, a.window, a.weight), batches(), a.steps, 1e-2)
    tensors = {f"nats.layers.{i}.router.weight": p for i, p in enumerate(params)}
    common.export(a.out, tensors, dict(
        method="nats", window=a.window, chunk=1, types=["global", "local", "window"], base_norms=digest,
        weight=a.weight, steps=a.steps, seed=a.seed, data=",".join(mix)))


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--model", required=True)
    p.add_argument("--data", required=True, help="train.npz written by encode.py")
    p.add_argument("--out", required=True)
    p.add_argument("--window", type=int, default=8)
    p.add_argument("--weight", type=float, default=1.0, help="strength of the sparsity term")
    p.add_argument("--steps", type=int, default=400)
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--length", type=int, default=288)
    p.add_argument("--long", type=int, default=1024, help="length of the single rows that some steps take")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--only-recall", action="store_true", help="for the transfer test: no other task")
    main(p.parse_args())
