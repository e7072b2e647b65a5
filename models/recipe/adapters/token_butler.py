"""Trains the TokenButler predictor of a frozen model: which cached tokens the next query will read.

    python token_butler.py --model ../../decant-tiny --data DIR/train.npz --out token_butler.safetensors

Second generation of TokenButler (arXiv 2503.07518 and the later repository): for the layers
p + 1 .. p + G a small network reads the attention input of layer p and gives one projected query per
query head; keys are the cached ones (after RoPE) through a projection per layer and KV head. Score of
a KV head = maximum over its query heads of Q' K' / sqrt(Dp). Layer 0 stays dense. Here G = 1, and the
loss is the cross-entropy between the group's mean attention row and the softmax of the scores.

Where we differ: the network is built from what every backend of the gateway has, RMSNorm instead of
LayerNorm and silu(gate) * up instead of SiLU.
"""

import argparse

import jax
import jax.numpy as jnp

import common

MIX = dict(recall=.15, recall_mid=.3, recall_long=.1, json=.08, sql=.06, qa=.08, copy=.05, sort=.03, add_steps=.03, story=.12)


def init(c, seed, width, dim):
    keys = iter(jax.random.split(jax.random.PRNGKey(seed), 4 * c["layers"]))
    draw = lambda *shape: jax.random.normal(next(keys), shape) * shape[-1]**-0.5
    return [dict(norm=jnp.ones(c["hidden"]), gate=draw(width, c["hidden"]), up=draw(width, c["hidden"]),
                 down=draw(c["heads"] * dim, width), keys=draw(c["kv"], dim, c["dim"])) for _ in range(c["layers"] - 1)]


def queries(p, x, c, dim):
    """x [B, T, hidden] -> [B, kvHeads, group, T, dim]."""
    B, T, _ = x.shape
    z = common.rms(x, p["norm"], 1e-5)
    q = (jax.nn.silu(z @ p["gate"].T) * (z @ p["up"].T)) @ p["down"].T
    return q.reshape(B, T, c["kv"], c["heads"] // c["kv"], dim).transpose(0, 2, 3, 1, 4)


def scores(p, x, k, c, dim):
    """Attention input of the producer and cached keys of the served layer -> [B, kvHeads, T, T]."""
    projected = jnp.einsum("bksd,ked->bkse", k, p["keys"])
    return jnp.einsum("bkgte,bkse->bkgts", queries(p, x, c, dim), projected).max(2) * dim**-0.5


def make_loss(w, c, dim):
    def loss(params, batch, key):
        tokens, length = batch["tokens"], batch["length"]
        _, seen = common.forward(w, c, tokens, watch=lambda i, x, q, k, p: (x, k, p.mean(2)))
        seen = jax.lax.stop_gradient(seen)
        T = tokens.shape[1]
        causal = jnp.tril(jnp.ones((T, T), bool))
        # Rows without a choice say nothing; padding neither.
        row = (jnp.arange(T) >= 16) & (jnp.arange(T) < length[:, None])
        total = got = 0.0
        for i, p in enumerate(params):
            s = jnp.where(causal, scores(p, seen[i][0], seen[i + 1][1], c, dim), -1e9)
            teacher = seen[i + 1][2]
            ce = -(teacher * jax.nn.log_softmax(s)).sum(-1)
            entropy = -(teacher * jnp.log(teacher + 1e-9)).sum(-1)
            weight = row[:, None] / jnp.maximum(row.sum(), 1) / c["kv"]
            total += ((ce - entropy) * weight).sum() / len(params)
            best = jax.lax.top_k(s, 16)[1]
            got += (jnp.take_along_axis(teacher, best, -1).sum(-1) * weight).sum() / len(params)
        return total, dict(kl=total, mass_at_16=jax.lax.stop_gradient(got))
    return loss


def main(a):
    w, c, digest = common.read_model(a.model)
    mix = dict(recall_mid=.6, recall=.2, recall_long=.2) if a.only_recall else MIX
    data = common.Data(a.data, mix, a.seed)

    def batches():
        while True:
            yield data.batch(*((1, a.long) if data.rng.random() < 0.1 else (a.batch, a.length)))

    params = common.fit(init(c, a.seed, a.width, a.dim), make_loss(w, c, a.dim), batches(), a.steps, 3e-3)
    tensors = {}
    for i, p in enumerate(params):
        at = f"token_butler.producers.{i}."
        tensors |= {at + f"{n}.weight": p[n] for n in ("norm", "gate", "up", "down")}
        tensors[f"token_butler.layers.{i + 1}.key_proj"] = p["keys"]
    common.export(a.out, tensors, dict(method="tokenbutler", dim=a.dim, width=a.width, group=1, dense_layers=[0],
                                       base_norms=digest, steps=a.steps, seed=a.seed, data=",".join(mix)))


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--model", required=True)
    p.add_argument("--data", required=True, help="train.npz written by encode.py")
    p.add_argument("--out", required=True)
    p.add_argument("--width", type=int, default=96, help="hidden units of the query network")
    p.add_argument("--dim", type=int, default=8, help="predictor head dimension Dp")
    p.add_argument("--steps", type=int, default=1200)
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--length", type=int, default=288)
    p.add_argument("--long", type=int, default=1024, help="length of the single rows that some steps take")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--only-recall", action="store_true", help="for the transfer test: no other task")
    main(p.parse_args())
