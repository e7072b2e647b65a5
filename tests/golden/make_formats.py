"""Writes formats.gguf, formats.safetensors and formats.json with other projects' writers.

Versions used: Python 3.11, gguf 0.19.0, safetensors 0.8.0, numpy 2.4.6.
Run in this folder: python make_formats.py

formats.json holds shapes (outermost first), types and the values as f32.
"""

import json

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import GGUFWriter, quants
from safetensors.numpy import save_file


def main():
    rng = np.random.default_rng(7)
    plain = rng.standard_normal((3, 4)).astype(np.float32)
    cube = rng.standard_normal((2, 3, 5)).astype(np.float16)
    wide = rng.standard_normal((3, 64)).astype(np.float32)
    q8, q4 = quants.quantize(wide, T.Q8_0), quants.quantize(wide, T.Q4_0)

    writer = GGUFWriter("formats.gguf", "llama")
    writer.add_custom_alignment(64)
    writer.add_uint64("test.u64", 2**60)
    writer.add_int8("test.i8", -5)
    writer.add_bool("test.bool", True)
    writer.add_float64("test.f64", 0.1)
    writer.add_array("test.strings", ["a", "", "ü", "\ufeff"])
    writer.add_array("test.ints", [1, -2, 3])
    writer.add_array("test.floats", [0.5, -1.5])
    writer.add_tensor("plain", plain)
    writer.add_tensor("cube", cube)
    writer.add_tensor("q8", q8, raw_dtype=T.Q8_0)
    writer.add_tensor("q4", q4, raw_dtype=T.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    save_file({"plain": plain, "cube": cube, "ids": np.arange(3)}, "formats.safetensors", {"format": "np"})

    def entry(dtype, values):
        return {"dtype": dtype, "shape": list(values.shape), "values": [float(v) for v in values.reshape(-1)]}

    expected = {
        "plain": entry("F32", plain),
        "cube": entry("F16", cube),
        "q8": entry("Q8_0", quants.dequantize(q8, T.Q8_0)),
        "q4": entry("Q4_0", quants.dequantize(q4, T.Q4_0)),
    }
    with open("formats.json", "w") as file:
        json.dump(expected, file)
        file.write("\n")


main()
