"""Writes quants.json: blocks of every supported ggml type and their values by another implementation.

Versions used: Python 3.11, gguf 0.19.0, numpy 2.4.6 (`pip install gguf==0.19.0 numpy==2.4.6`).
Run in this folder: python make_quants.py

Blocks are random bits, so that every scale, minimum and nibble position is exercised, plus blocks
whose half-precision scales are awkward: zero, minus zero, subnormal, largest, infinite, NaN, and
all-zero and all-one payloads. Where gguf can quantise a type, blocks made from real values follow.
Values are the f32 bit patterns; a NaN is written as the canonical 7fc00000.
"""

import json

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES

# Offsets of the f16 fields of a block.
HALVES = {
    "F32": [], "F16": [], "BF16": [],
    "Q8_0": [0], "Q4_0": [0], "Q5_0": [0],
    "Q4_1": [0, 2], "Q5_1": [0, 2],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}
# Zero, minus zero, subnormal, largest subnormal, 1, -2, largest, infinity, NaN.
SCALES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x3C00, 0xC000, 0x7BFF, 0x7C00, 0x7E00]


def blocks_of(name, rng):
    _, size = GGML_QUANT_SIZES[T[name]]
    if not HALVES[name]:
        return rng.integers(0, 256, (256, size), dtype=np.uint8)
    out = []
    for i, scale in enumerate(SCALES):
        block = rng.integers(0, 256, size, dtype=np.uint8)
        for j, at in enumerate(HALVES[name]):
            bits = SCALES[(i + 4 * j) % len(SCALES)] if j else scale
            block[at : at + 2] = np.frombuffer(np.uint16(bits).tobytes(), np.uint8)
        out.append(block)
    for fill in (0, 255):
        block = np.full(size, fill, np.uint8)
        for at in HALVES[name]:
            block[at : at + 2] = np.frombuffer(np.float16(0.37).tobytes(), np.uint8)
        out.append(block)
    return np.stack(out)


def main():
    rng = np.random.default_rng(20260101)
    result = {"versions": {"gguf": "0.19.0", "numpy": np.__version__}, "types": {}}
    for name in HALVES:
        block, size = GGML_QUANT_SIZES[T[name]]
        data = blocks_of(name, rng)
        try:
            real = (rng.standard_normal((3, max(block, 32))) * [[0.02], [3.0], [1e-4]]).astype(np.float32)
            data = np.concatenate([data, quants.quantize(real, T[name]).view(np.uint8).reshape(-1, size)])
        except NotImplementedError:
            pass
        with np.errstate(all="ignore"):
            values = quants.dequantize(data, T[name]).astype(np.float32).reshape(-1)
        bits = values.view(np.uint32).copy()
        bits[np.isnan(values)] = 0x7FC00000
        result["types"][name] = {
            "blocks": data.tobytes().hex(),
            "values": bits.astype("<u4").tobytes().hex(),
        }
    with open("quants.json", "w") as file:
        json.dump(result, file, indent=0)
        file.write("\n")


main()
