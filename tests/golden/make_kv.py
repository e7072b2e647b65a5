"""Writes kv.json: keys and values in the KV format kivi4, and scores of KVzap heads, by numpy.

Versions used: Python 3.11, numpy 1.24.2 (`pip install numpy==1.24.2`).
Run in this folder: python make_kv.py

Keys are 64 tokens of 12 channels, two of which are outliers (large spread, large offset) and one is
constant; values are 64 tokens of 40 channels, so that the last group of channels is not full.
"""

import base64
import json
import math

import numpy as np

rng = np.random.default_rng(7)


def affine(x, axis):
    """4 bits: integers, f16 scales and f16 minima along an axis."""
    low = x.min(axis=axis, keepdims=True)
    scale = ((x.max(axis=axis, keepdims=True).astype(np.float64) - low) / 15).astype(np.float16)
    low = low.astype(np.float16)
    unit = np.where(scale == 0, 1, scale.astype(np.float64))
    # Half up, as in JavaScript; nothing here lies exactly between two steps.
    n = np.clip(np.floor((x.astype(np.float64) - low.astype(np.float64)) / unit + 0.5), 0, 15)
    return n.astype(np.uint32), scale, low, low.astype(np.float64) + unit * n


def words(n):
    """[..., d] half bytes -> little-endian u32, low half first."""
    pad = -n.shape[-1] % 8
    n = np.pad(n, [(0, 0)] * (n.ndim - 1) + [(0, pad)])
    n = n.reshape(*n.shape[:-1], -1, 8)
    return (n << (4 * np.arange(8, dtype=np.uint32))).sum(axis=-1).astype("<u4")


def base64_of(data):
    return base64.b64encode(data).decode()


keys = rng.normal(size=(64, 12)).astype(np.float32)
keys[:, 3] *= 40
keys[:, 7] = keys[:, 7] / 4 + 25
keys[:, 11] = 1.5
groups, decoded = [], []
for group in keys.reshape(2, 32, 12):
    n, scale, low, back = affine(group, 0)
    head = scale[0].view(np.uint16).astype(np.uint32) | low[0].view(np.uint16).astype(np.uint32) << 16
    groups.append(head.astype("<u4").tobytes() + words(n).tobytes())
    decoded.append(back.astype(np.float32))

values = rng.normal(size=(64, 40)).astype(np.float32)
vectors, decoded_values = [], []
for vector in values:
    parts = [affine(part, 0) for part in (vector[:32], vector[32:])]
    head = b"".join(s.astype("<f2").tobytes() + z.astype("<f2").tobytes() for _, s, z, _ in parts)
    vectors.append(head + words(np.concatenate([n for n, *_ in parts])).tobytes())
    decoded_values.append(np.concatenate([back for *_, back in parts]).astype(np.float32))

f32 = lambda array: base64_of(array.astype("<f4").tobytes())
result = {
    "kivi4": {
        "keys": f32(keys),
        "keyBytes": base64_of(b"".join(groups)),
        "decodedKeys": f32(np.concatenate(decoded)),
        "values": f32(values),
        "valueBytes": base64_of(b"".join(vectors)),
        "decodedValues": f32(np.stack(decoded_values)),
    },
}

# KVzap's two layers: 3 tokens, hidden 8, width 5, 2 KV heads, 2 layers. GELU with erf.
gelu = np.vectorize(lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2)
hidden = rng.normal(size=(3, 8)).astype(np.float32)
tensors, scores = {}, []
for layer in range(2):
    parts = {}
    for name, shape in (("0.weight", (5, 8)), ("0.bias", (5,)), ("2.weight", (2, 5)), ("2.bias", (2,))):
        parts[name] = rng.normal(size=shape).astype(np.float32)
        tensors[f"layers.{layer}.{name}"] = {"shape": shape, "data": f32(parts[name])}
    x = hidden.astype(np.float64) @ parts["0.weight"].astype(np.float64).T + parts["0.bias"]
    y = gelu(x) @ parts["2.weight"].astype(np.float64).T + parts["2.bias"]
    scores.append(f32(y))
result["kvzap"] = {"hidden": f32(hidden), "tensors": tensors, "scores": scores}

with open("kv.json", "w") as file:
    json.dump(result, file, indent=1)
    file.write("\n")
