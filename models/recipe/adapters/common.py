"""What the adapter trainers share: the frozen backbone, batches, optimiser, progress, export.

The backbone is a model in Hugging Face layout, of `LlamaForCausalLM`, `MistralForCausalLM`,
`Qwen2ForCausalLM` or `Qwen3ForCausalLM`: embedding, RMSNorm, half-split RoPE (plain, linear or llama3
scaling), grouped queries, SwiGLU, with biases and norms of queries and keys where the files have them.
`golden.py` compares it with transformers' numbers.
"""

import hashlib
import json
import os
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file


ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")


def read_config(config):
    """config.json -> shape, or SystemExit naming what is not supported."""
    if config["architectures"][0] not in ARCHITECTURES:
        raise SystemExit(f"{config['architectures'][0]} is none of {', '.join(ARCHITECTURES)}")
    heads = config["num_attention_heads"]
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return dict(layers=config["num_hidden_layers"], heads=heads, kv=config["num_key_value_heads"],
                dim=config.get("head_dim") or config["hidden_size"] // heads, hidden=config["hidden_size"],
                eps=config["rms_norm_eps"], theta=rope.get("rope_theta", config.get("rope_theta", 10000.0)), rope=rope,
                # Longer rows would need the mask of a sliding window.
                longest=config.get("sliding_window") if config.get("use_sliding_window", True) else None)


def frequencies(c):
    """Radians per position of each pair, scaled as the configuration says."""
    f = c["theta"] ** (-np.arange(0, c["dim"], 2) / c["dim"])
    rope = c["rope"]
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "linear":
        return f / rope["factor"]
    if kind == "llama3":
        turns = rope["original_max_position_embeddings"] * f / (2 * np.pi)
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        smooth = np.clip((turns - low) / (high - low), 0, 1)
        return f * ((1 - smooth) / rope["factor"] + smooth)
    if kind != "default":
        raise SystemExit(f"RoPE scaling {kind} is not supported")
    return f


def open_tensors(folder):
    """-> get(name), f32 or None if there is no such tensor; one file or several, any float type."""
    index = os.path.join(folder, "model.safetensors.index.json")
    names = ["model.safetensors"]
    if os.path.exists(index):
        names = sorted(set(json.load(open(index, encoding="utf-8"))["weight_map"].values()))
    files = [safe_open(os.path.join(folder, n), "flax") for n in names]
    where = {key: f for f in files for key in f.keys()}
    return lambda name: where[name].get_tensor(name).astype(jnp.float32) if name in where else None


def build(get, c, tied):
    """Named tensors -> weights; `get` returns None for what the model does not have."""
    layers = []
    for i in range(c["layers"]):
        at = lambda name: get(f"model.layers.{i}.{name}")
        L = dict(norm1=at("input_layernorm.weight"), norm2=at("post_attention_layernorm.weight"),
                 qn=at("self_attn.q_norm.weight"), kn=at("self_attn.k_norm.weight"))
        for short in "qkvo":
            L |= {short: at(f"self_attn.{short}_proj.weight"), short + "_bias": at(f"self_attn.{short}_proj.bias")}
        for short in ("gate", "up", "down"):
            L |= {short: at(f"mlp.{short}_proj.weight"), short + "_bias": at(f"mlp.{short}_proj.bias")}
        layers.append({k: x for k, x in L.items() if x is not None})
    embed = get("model.embed_tokens.weight")
    return dict(embed=embed, head=embed if tied else get("lm_head.weight"), norm=get("model.norm.weight"), layers=layers)


def read_model(folder):
    """config.json and model.safetensors -> (weights, shape, fingerprint of the model).

    The fingerprint is the SHA-256 of the values of the final norm and of the layers' input norms, as
    little-endian f32: cheap for any size, the same for every file format, other for other weights.
    """
    config = json.load(open(os.path.join(folder, "config.json"), encoding="utf-8"))
    c = read_config(config)
    weights = build(open_tensors(folder), c, config.get("tie_word_embeddings", False))
    norms = [weights["norm"], *(L["norm1"] for L in weights["layers"])]
    return weights, c, hashlib.sha256(b"".join(np.asarray(x, "<f4").tobytes() for x in norms)).hexdigest()


def rms(x, weight, eps):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + eps) * weight


def rotations(c, T):
    angle = jnp.arange(T)[:, None] * jnp.asarray(frequencies(c), jnp.float32)
    return jnp.cos(angle), jnp.sin(angle)


def linear(L, name, x):
    y = x @ L[name].T
    return y + L[name + "_bias"] if name + "_bias" in L else y


def rope(x, rotation):
    """x [..., T, dim]; halves rotate against each other."""
    cos, sin = rotation
    a, b = jnp.split(x, 2, -1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def forward(w, c, tokens, mask=None, watch=None):
    """tokens [B, T] -> (logits [B, T, vocab], what `watch` returned for each layer).

    mask(layer, x, k) gives the visibility [B, kvHeads, T, T] in 0..1 from the layer's attention input
    x [B, T, hidden] and its keys (absent: causal). watch(layer, x, q, k, probs) sees q [B, kvHeads, group, T, dim]
    and k [B, kvHeads, T, dim] after RoPE and the attention probabilities [B, kvHeads, group, T, T].
    """
    B, T = tokens.shape
    if c["longest"] is not None and T > c["longest"]:
        raise SystemExit(f"rows of {T} tokens are longer than the model's sliding window of {c['longest']}")
    H, K, D = c["heads"], c["kv"], c["dim"]
    rotation = rotations(c, T)
    causal = jnp.tril(jnp.ones((T, T)))
    x, seen = w["embed"][tokens], []
    for i, L in enumerate(w["layers"]):
        h = rms(x, L["norm1"], c["eps"])
        split = lambda name, n: linear(L, name, h).reshape(B, T, n, D)
        normed = lambda x, name: rms(x, L[name], c["eps"]) if name in L else x
        turned = lambda x: rope(x.transpose(0, 2, 1, 3), rotation)
        q = turned(normed(split("q", H), "qn")).reshape(B, K, H // K, T, D)
        k, v = turned(normed(split("k", K), "kn")), split("v", K).transpose(0, 2, 1, 3)
        visible = causal if mask is None else causal * mask(i, h, k)
        visible = visible[:, :, None] if visible.ndim == 4 else visible
        score = jnp.einsum("bkgtd,bksd->bkgts", q, k) * D**-0.5
        # The maximum over visible places, so that no row underflows; a hidden place may lie far above
        # it, and its only use is the mask's gradient: bounded.
        top = jax.lax.stop_gradient(jnp.where((causal * visible) > 0, score, -jnp.inf).max(-1, keepdims=True))
        e = jnp.where(causal > 0, jnp.exp(jnp.minimum(score - top, 5)), 0) * visible
        probs = e / e.sum(-1, keepdims=True)
        if watch:
            seen.append(watch(i, h, q, k, probs))
        a = jnp.einsum("bkgts,bksd->btkgd", probs, v).reshape(B, T, H * D)
        x = x + linear(L, "o", a)
        h = rms(x, L["norm2"], c["eps"])
        x = x + linear(L, "down", jax.nn.silu(linear(L, "gate", h)) * linear(L, "up", h))
    return rms(x, w["norm"], c["eps"]) @ w["head"].T, seen


class Data:
    """Samples written by encode.py, drawn by task; one sample per row, padded with zeros."""

    def __init__(self, path, mix, seed):
        z = np.load(path)
        self.tokens, self.mark, self.start = z["tokens"], z["mark"], z["start"]
        names = [str(x) for x in z["names"]]
        task, length = z["task"], np.diff(self.start)
        self.rows = {n: np.flatnonzero(task == names.index(n)) for n in mix}
        self.length, self.mix, self.rng = length, mix, np.random.default_rng(seed)

    def batch(self, B, T):
        """-> tokens [B, T], length [B], learn [B, T]: 1 where the next token is an answer's."""
        names, share = list(self.mix), np.array(list(self.mix.values()))
        tokens, learn = np.zeros((B, T), np.int32), np.zeros((B, T), np.float32)
        size = np.zeros(B, np.int32)
        for b in range(B):
            rows = self.rows[names[self.rng.choice(len(names), p=share / share.sum())]]
            i = rows[self.rng.integers(len(rows))]
            a, n = self.start[i], min(self.length[i], T)
            tokens[b, :n], size[b] = self.tokens[a:a + n], n
            learn[b, :n - 1] = self.mark[a + 1:a + n]
        return dict(tokens=tokens, length=size, learn=learn)


def adam(params, grads, m, v, step, lr):
    """One Adam step with decay rates 0.9 and 0.98 and the gradient clipped to norm 1."""
    norm = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(grads)))
    grads = jax.tree.map(lambda g: g * jnp.minimum(1.0, 1.0 / (norm + 1e-9)), grads)
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
    v = jax.tree.map(lambda v, g: 0.98 * v + 0.02 * g * g, v, grads)
    new = jax.tree.map(
        lambda p, m, v: p - lr * (m / (1 - 0.9**step)) / (jnp.sqrt(v / (1 - 0.98**step)) + 1e-8), params, m, v)
    return new, m, v


def fit(params, loss, batches, steps, peak, log=print, update=adam, falls=True):
    """Warm-up, then cosine (or constant); loss(params, batch, key) -> (value, numbers to show)."""
    @jax.jit
    def one(params, m, v, step, lr, batch, key):
        (_, shown), g = jax.value_and_grad(loss, has_aux=True)(params, batch, key)
        return *update(params, g, m, v, step, lr), shown

    m, v = jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params)
    mean, started, last = None, time.time(), 0.0
    for step in range(steps):
        lr = peak * min(1, (step + 1) / 30) * (0.5 + 0.5 * np.cos(np.pi * step / steps) if falls else 1)
        params, m, v, shown = one(params, m, v, step + 1.0, lr, next(batches), jax.random.PRNGKey(step))
        shown = {k: float(x) for k, x in shown.items()}
        mean = shown if mean is None else {k: 0.95 * mean[k] + 0.05 * x for k, x in shown.items()}
        if time.time() - last > 10 or step + 1 == steps:
            last, left = time.time(), (time.time() - started) / (step + 1) * (steps - step - 1)
            bar = "#" * (30 * (step + 1) // steps)
            log(f"[{bar:.<30}] {step + 1}/{steps}, {left:.0f} s left  "
                + "  ".join(f"{k} {x:.4f}" for k, x in mean.items()))
            sys.stdout.flush()
    return params


def export(path, tensors, meta):
    """Safetensors in f32 with string metadata; keys and values of `meta` become strings."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    save_file({k: np.ascontiguousarray(np.asarray(x, np.float32)) for k, x in tensors.items()}, path,
              {k: x if isinstance(x, str) else json.dumps(x) for k, x in meta.items()})
    print(f"{path}: {sum(np.asarray(x).size for x in tensors.values()):,} numbers")
