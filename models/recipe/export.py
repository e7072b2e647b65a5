"""Writes a checkpoint of train.py as a Hugging Face Llama folder with float16 weights.

    python export.py --size tiny --checkpoint last.npz --out ../decant-tiny
    python export.py --size tiny --out ../decant-tiny          (random weights, to test loaders)
"""

import argparse
import json
import os

import jax
import numpy as np
from safetensors.numpy import save_file

import train

NAMES = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
         "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
         "norm1": "input_layernorm", "norm2": "post_attention_layernorm"}
CONTEXT = 1024


def tensors(p):
    """Our parameter tree -> Hugging Face names, float16; the output matrix is the embedding."""
    out = {"model.embed_tokens.weight": p["embed"], "model.norm.weight": p["norm"]}
    for i, layer in enumerate(p["layers"]):
        for key, value in layer.items():
            out[f"model.layers.{i}.{NAMES[key]}.weight"] = value
    return {k: np.asarray(v).astype(np.float16) for k, v in out.items()}


def config(c):
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float16",
        "vocab_size": train.VOCAB, "hidden_size": c["hidden"], "intermediate_size": c["ffn"],
        "num_hidden_layers": c["layers"], "num_attention_heads": c["heads"],
        "num_key_value_heads": c["kv"], "head_dim": c["dim"], "hidden_act": "silu",
        "max_position_embeddings": CONTEXT, "rms_norm_eps": train.EPS, "rope_theta": train.THETA,
        "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True,
        "bos_token_id": None, "eos_token_id": [2, 0], "pad_token_id": 0,
    }


def main(args):
    c = train.SIZES[args.size]
    p = train.init(c)
    if args.checkpoint:
        p, _, _, meta = train.load(args.checkpoint, p)
        print(meta)
    else:  # few different values, so that the placeholder compresses well
        p = jax.tree.map(lambda x: np.round(x / x.std()) * x.std() if x.ndim == 2 else x, p)
    os.makedirs(args.out, exist_ok=True)
    save_file(tensors(p), os.path.join(args.out, "model.safetensors"), metadata={"format": "pt"})
    os.chmod(os.path.join(args.out, "model.safetensors"), 0o644)
    generation = {"do_sample": False, "eos_token_id": [2, 0], "pad_token_id": 0}
    for name, value in (("config.json", config(c)), ("generation_config.json", generation)):
        with open(os.path.join(args.out, name), "w") as f:
            json.dump(value, f, indent=2)
            f.write("\n")


if __name__ == "__main__":
    a = argparse.ArgumentParser()
    a.add_argument("--size", choices=train.SIZES, required=True)
    a.add_argument("--checkpoint")
    a.add_argument("--out", required=True)
    main(a.parse_args())
