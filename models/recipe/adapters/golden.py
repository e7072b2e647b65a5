"""Compares the backbone of the trainers with transformers' logits of six made-up models.

    python golden.py ../../../tests/golden/logits.json
"""

import json
import sys

import jax.numpy as jnp
import numpy as np

import common


def weight(name, shape):
    """As tests/golden/make_logits.py makes them."""
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = (seed ^ byte) * 0x01000193 & 0xFFFFFFFF
    h = np.arange(np.prod(shape), dtype=np.uint32) * np.uint32(0x9E3779B1) + np.uint32(seed)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        h = (h ^ h >> np.uint32(shift)) * np.uint32(factor)
    u = (h ^ h >> np.uint32(16)).astype(np.float64) / 2**31 - 1
    if name.endswith("norm.weight"):
        u = 1 + u / 4
    elif name.endswith(".bias"):
        u = u / 2
    elif "embed_tokens" not in name:
        u = u * (3 / shape[-1]) ** 0.5
    return u.astype(np.float32).reshape(shape)


def error(case):
    """Largest difference of a logit, relative to the largest logit of its row."""
    config, shapes = json.loads(case["config"]), case["shapes"]
    c = common.read_config(config)
    get = lambda name: jnp.asarray(weight(name, shapes[name])) if name in shapes else None
    w = common.build(get, c, config.get("tie_word_embeddings", False))
    logits = np.asarray(common.forward(w, c, jnp.asarray([case["tokens"]]))[0])[0]
    return max(abs(logits[p] - row).max() / abs(row).max()
               for p, row in zip(case["positions"], np.asarray(case["logits"])))


if __name__ == "__main__":
    errors = {name: error(case) for name, case in json.load(open(sys.argv[1]))["cases"].items()}
    for name, value in errors.items():
        print(f"{name}: {value:.1e}")
    if max(errors.values()) > 1e-5:
        raise SystemExit("off by more than 1e-5")
