"""Writes logits.json: logits and hidden states of tiny models with made-up weights, computed by
Hugging Face transformers 4.51.3 (its modelling code, unchanged, eager attention) in double precision.

    python3 -m venv --system-site-packages env   # torch, here Debian's python3-torch 1.13
    env/bin/pip install transformers==4.51.3 "numpy<2"
    env/bin/python make_logits.py

transformers keeps norms, softmax and rotary angles in f32 even in a double model, so the numbers are
good to about 1e-6 of a logit's size. Weights come from `weight` below, which tests/fakes/hashed_weights.ts
repeats in TypeScript.
"""

import json
import os
import sys
import types

import numpy as np
import torch


def accept_old_torch():
    """transformers 4.51 imports names of torch 2 that these models never use: give it empty ones."""

    class Empty(types.ModuleType):
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

    for name in ("torch.distributed.tensor", "torch.distributed.device_mesh", "torch.nn.attention",
                 "torch.nn.attention.flex_attention", "torch.compiler", "torch._dynamo",
                 "torch._dynamo._trace_wrapped_higher_order_op"):
        try:
            __import__(name)
        except ImportError:
            sys.modules[name] = Empty(name)
    if not hasattr(torch, "compiler"):
        torch.compiler = sys.modules["torch.compiler"]
        torch.compiler.disable = lambda fn=None, **_: fn if fn else (lambda f: f)
        torch.compiler.is_compiling = lambda: False
    for name in ("float8_e4m3fn", "float8_e5m2"):
        if not hasattr(torch, name):
            setattr(torch, name, None)


accept_old_torch()
import transformers  # noqa: E402
from transformers import (LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM,  # noqa: E402
                          Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)


def weight(name, shape):
    """f32 values from a hash of name and index: FNV-1a, then lowbias32 (Wellons)."""
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = (seed ^ byte) * 0x01000193 & 0xFFFFFFFF
    h = np.arange(np.prod(shape), dtype=np.uint32) * np.uint32(0x9E3779B1) + np.uint32(seed)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x7FEB352D)
    h ^= h >> np.uint32(15)
    h *= np.uint32(0x846CA68B)
    h ^= h >> np.uint32(16)
    u = h.astype(np.float64) / 2**31 - 1  # uniform in [-1, 1)
    if name.endswith("norm.weight"):
        u = 1 + u / 4
    elif name.endswith(".bias"):
        u = u / 2
    elif "embed_tokens" not in name:
        u = u * (3 / shape[-1]) ** 0.5  # unit gain
    return u.astype(np.float32).reshape(shape)


COMMON = dict(vocab_size=160, bos_token_id=1, eos_token_id=2, pad_token_id=None)
CASES = {
    "llama3-rope": (LlamaForCausalLM, LlamaConfig(
        **COMMON, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5, rope_theta=10000.0,
        rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                          original_max_position_embeddings=32))),
    "llama-biases-linear-rope": (LlamaForCausalLM, LlamaConfig(
        **COMMON, hidden_size=64, intermediate_size=80, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=24, max_position_embeddings=128, rms_norm_eps=1e-6,
        attention_bias=True, mlp_bias=True, rope_scaling=dict(rope_type="linear", factor=2.0))),
    "smollm2-tied": (LlamaForCausalLM, LlamaConfig(
        **COMMON, hidden_size=72, intermediate_size=96, num_hidden_layers=3, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=512, rms_norm_eps=1e-5, rope_theta=100000.0,
        tie_word_embeddings=True)),
    "mistral": (MistralForCausalLM, MistralConfig(
        **COMMON, hidden_size=64, intermediate_size=112, num_hidden_layers=2, num_attention_heads=8,
        num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5, sliding_window=64)),
    "qwen2-bias": (Qwen2ForCausalLM, Qwen2Config(
        **COMMON, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=1, max_position_embeddings=256, rms_norm_eps=1e-6, rope_theta=1e6,
        tie_word_embeddings=True, use_sliding_window=False)),
    "qwen3-qk-norm": (Qwen3ForCausalLM, Qwen3Config(
        **COMMON, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=24, max_position_embeddings=256, rms_norm_eps=1e-6,
        rope_theta=1e6, use_sliding_window=False)),
}
TOKENS = [(7 * i * i + 11 * i + 3) % 160 for i in range(40)]
POSITIONS = [0, 1, 20, 38, 39]


def run(cls, config):
    config._attn_implementation = "eager"
    model = cls(config).double().eval()
    shapes = {}
    for name, parameter in model.named_parameters():
        shapes[name] = list(parameter.shape)
        parameter.data = torch.from_numpy(weight(name, shapes[name])).double()
    model.tie_weights()
    before_norm = []
    model.model.norm.register_forward_pre_hook(lambda _, x: before_norm.append(x[0]))
    with torch.no_grad():
        out = model(torch.tensor([TOKENS]), output_hidden_states=True)
    hidden = [*out.hidden_states[:-1], before_norm[0]]  # theirs ends after the final norm
    return dict(
        config=json.dumps({**json.loads(config.to_json_string()), "architectures": [cls.__name__]}),
        shapes=shapes,
        tokens=TOKENS,
        positions=POSITIONS,
        logits=[[round(v, 6) for v in out.logits[0, p].tolist()] for p in POSITIONS],
        hidden=[[round(v, 6) for v in h[0, -1].tolist()] for h in hidden],
    )


result = dict(
    note="See make_logits.py. logits: one row per entry of positions; hidden: of the last token, "
         "entry l after layer l (0 = embedding), before the final norm.",
    made_with=f"transformers {transformers.__version__}, torch {torch.__version__}",
    cases={name: run(*case) for name, case in CASES.items()},
)
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "logits.json"), "w") as f:
    json.dump(result, f, separators=(",", ":"))
    f.write("\n")
