"""Trains one Llama-shaped model of the embedded family on CPU with JAX.

The schedule is keyed to wall-clock minutes (warm-up, constant, linear decay over the last part), so
that a run ends on time on any machine. The curriculum (copy -> short recall -> all tasks -> longer
rows) is PHASES below. Run it again with the same --out to resume.

    python train.py --size tiny --data DIR --out DIR --minutes 80
"""

import argparse
import json
import os
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np

VOCAB = 2048
SIZES = {  # hidden, layers, heads, kv heads, head dim, ffn
    "tiny": dict(hidden=256, layers=4, heads=8, kv=4, dim=32, ffn=640),
    "draft": dict(hidden=96, layers=2, heads=4, kv=2, dim=24, ffn=256),
}
SHAPES = {256: 16, 512: 8, 1024: 4}  # row length -> rows; 4,096 tokens a step
SMALLER = {"copy": 3, "chunks": 3, "first": 2, "main": 2, "long": 2}  # early phases take more, smaller steps
# At most half of the positions of a step carry loss (the output layer is a sixth of the work).
EPS = 1e-5
THETA = 10000.0


# ---- model ---------------------------------------------------------------------------------------

def init(c, seed=0):
    keys = iter(jax.random.split(jax.random.PRNGKey(seed), 1 + 7 * c["layers"]))
    q, kv = c["heads"] * c["dim"], c["kv"] * c["dim"]

    def w(rows, cols, gain=1.0):
        return jax.random.normal(next(keys), (rows, cols)) * gain * cols**-0.5

    p = {"embed": jax.random.normal(next(keys), (VOCAB, c["hidden"])) * 0.03,
         "norm": jnp.ones(c["hidden"]), "layers": []}
    for _ in range(c["layers"]):
        p["layers"].append(dict(
            norm1=jnp.ones(c["hidden"]), norm2=jnp.ones(c["hidden"]),
            q=w(q, c["hidden"]), k=w(kv, c["hidden"]), v=w(kv, c["hidden"]),
            o=w(c["hidden"], q, 0.0), gate=w(c["ffn"], c["hidden"]), up=w(c["ffn"], c["hidden"]),
            down=w(c["hidden"], c["ffn"], 0.0)))
    return seed_induction(p, c)


def seed_induction(p, c, seed=1):
    """Starts from a rough induction circuit, which otherwise takes most of the budget to appear.

    The embedding gets a constant direction, so that a head of layer 0 can attend by position alone:
    to the previous token. It writes a projection of that token into its own subspace. In layer 1 a
    head matches the current token against that subspace, in the slowly rotating dimensions, and
    copies what it finds into the residual stream. Training does the rest.
    """
    rng = np.random.default_rng(seed)
    d, D, half = c["hidden"], c["dim"], c["dim"] // 2
    basis = np.linalg.qr(rng.normal(size=(d, d)))[0]
    u, free = basis[:, 0], basis[:, 1:]
    e = np.asarray(p["embed"])
    e = e - np.outer(e @ u, u)
    norm = 0.5
    p["embed"] = jnp.asarray(0.8 * norm * e / np.linalg.norm(e, axis=1, keepdims=True) + 0.6 * norm * u)
    const = 0.6 * d**0.5  # after RMSNorm
    freq = THETA ** (-np.arange(half) * 2 / D)
    fast, slow = np.arange(5), np.arange(half // 2, half)
    a, b = p["layers"][0], p["layers"][1]
    a, b = ({k: np.array(v) for k, v in x.items()} for x in (a, b))
    amp = (6 * D**0.5) ** 0.5 / const
    q, k = np.zeros((D, d)), np.zeros((D, d))
    q[fast] = amp * u
    k[fast], k[fast + half] = amp * np.outer(np.cos(freq[fast]), u), amp * np.outer(np.sin(freq[fast]), u)
    a["q"][:D], a["k"][:D] = q, k
    n = 2 * len(slow)  # dimensions that carry the match
    rows = np.concatenate([slow, slow + half])
    see, write = free[:, :D].T, free[:, D:2 * D]  # [D, d] and [d, D]
    a["v"][:D] = see * 0.3
    a["o"][:, :D] = write * 0.3
    q, k = np.zeros((D, d)), np.zeros((D, d))
    q[rows], k[rows] = 1.6 * see[:n], 1.6 * write[:, :n].T
    b["q"][:D], b["k"][:D] = q, k
    copy = free[:, 2 * D:3 * D]
    b["v"][:D] = copy.T * 0.5
    b["o"][:, :D] = copy * 0.5
    p["layers"][0] = {k: jnp.asarray(v, jnp.float32) for k, v in a.items()}
    p["layers"][1] = {k: jnp.asarray(v, jnp.float32) for k, v in b.items()}
    return p


def rms(x, g):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPS) * g


def rope(x, cos, sin):  # x [B, H, T, D]; halves rotate against each other, as in Hugging Face Llama
    a, b = jnp.split(x, 2, -1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def attend(q, k, v, bias):
    """Causal attention in blocks of queries, so that half of the square is never computed.

    q [B, K, G, T, D], k and v [B, K, T, D], bias [B, T, T] -> [B, K, G, T, D]
    """
    B, K, G, T, D = q.shape
    C = max(64, T // 8)
    out = []
    for i in range(0, T, C):
        e = i + C
        s = q[:, :, :, i:e].reshape(B, K, G * C, D) @ k[:, :, :e].transpose(0, 1, 3, 2)
        s = s.reshape(B, K, G, C, e) * D**-0.5 + bias[:, None, None, i:e, :e]
        w = jnp.exp(s - jax.lax.stop_gradient(s.max(-1, keepdims=True))).reshape(B, K, G * C, e)
        out.append(((w @ v[:, :, :e]) / w.sum(-1, keepdims=True)).reshape(B, K, G, C, D))
    return jnp.concatenate(out, 3)


def hidden(p, c, tokens, seg, pos):
    """tokens, seg, pos [B, T] -> normalised final states [B * T, hidden]."""
    B, T = tokens.shape
    H, K, D = c["heads"], c["kv"], c["dim"]
    freq = THETA ** (-jnp.arange(0, D, 2) / D)
    angle = pos[:, None, :, None] * freq
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    bias = jnp.where(jnp.tril(jnp.ones((T, T), bool)) & (seg[:, :, None] == seg[:, None, :]), 0.0, -1e9)
    x = p["embed"][tokens].reshape(B * T, -1)
    for L in p["layers"]:
        h = rms(x, L["norm1"])
        heads = lambda w, n: (h @ w.T).reshape(B, T, n, D).transpose(0, 2, 1, 3)
        q, k, v = rope(heads(L["q"], H), cos, sin), rope(heads(L["k"], K), cos, sin), heads(L["v"], K)
        a = attend(q.reshape(B, K, H // K, T, D), k, v, bias)
        a = a.transpose(0, 3, 1, 2, 4).reshape(B * T, H * D)
        x = x + a @ L["o"].T
        h = rms(x, L["norm2"])
        x = x + (jax.nn.silu(h @ L["gate"].T) * (h @ L["up"].T)) @ L["down"].T
    return rms(x, p["norm"])


def loss_fn(p, c, b):
    logits = hidden(p, c, b["tokens"], b["seg"], b["pos"])[b["idx"]] @ p["embed"].T
    ce = jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(logits, b["target"][:, None], 1)[:, 0]
    return (ce * b["weight"]).sum() / b["weight"].sum(), (logits.argmax(-1) == b["target"], ce)


# ---- optimiser: Muon for matrices inside layers, Adam for embedding and norms --------------------

def orthogonal(g):
    """Newton-Schulz iteration of Muon (quintic, five steps)."""
    flip = g.shape[0] > g.shape[1]
    x = g.T if flip else g
    x = x / (jnp.linalg.norm(x) + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if flip else x


def update(p, g, m, v, step, lr):
    """lr is relative (0..1); Muon uses 0.02 * lr, Adam 0.0015 * lr."""
    def one(p, g, m, v):
        if p.ndim == 2 and p.shape[0] != VOCAB:
            m = 0.95 * m + 0.05 * g
            u = orthogonal(0.95 * m + 0.05 * g) * max(1.0, p.shape[0] / p.shape[1]) ** 0.5
            return p * (1 - 0.0005 * lr) - 0.02 * lr * u, m, v
        m = 0.9 * m + 0.1 * g
        v = 0.98 * v + 0.02 * g * g
        mh, vh = m / (1 - 0.9**step), v / (1 - 0.98**step)
        return p - 0.0015 * lr * mh / (jnp.sqrt(vh) + 1e-9), m, v
    out = jax.tree.map(one, p, g, m, v)
    pick = lambda i: jax.tree.map(lambda t: t[i], out, is_leaf=lambda t: isinstance(t, tuple))
    return pick(0), pick(1), pick(2)


def make_step(c):
    def step(p, m, v, n, lr, b):
        (loss, (ok, _)), g = jax.value_and_grad(loss_fn, has_aux=True)(p, c, b)
        norm = jnp.sqrt(sum(jnp.sum(x * x) for x in jax.tree.leaves(g)))
        g = jax.tree.map(lambda x: x * jnp.minimum(1.0, 1.0 / (norm + 1e-9)), g)
        p, m, v = update(p, g, m, v, n, lr)
        return p, m, v, loss, ((ok * (b["weight"] > 0)).sum() / (b["weight"] > 0).sum())
    return jax.jit(step, donate_argnums=(0, 1, 2))


# ---- data ----------------------------------------------------------------------------------------

class Shard:
    """Token ids, loss marks and task names of samples; written by encode.py."""

    def __init__(self, path):
        z = np.load(path)
        self.tokens, self.mark, self.start = z["tokens"], z["mark"], z["start"]
        self.names = [str(x) for x in z["names"]]
        self.by_task = {n: np.flatnonzero(z["task"] == i) for i, n in enumerate(self.names)}
        self.length = np.diff(self.start)
        self.mean = {n: self.length[r].mean() for n, r in self.by_task.items() if len(r)}
        self.at = {n: len(r) for n, r in self.by_task.items()}

    def next(self, name, rng):
        """Next sample of a task in a shuffled pass over all of them -> (tokens, marks)."""
        rows = self.by_task[name]
        if self.at[name] >= len(rows):
            rng.shuffle(rows)
            self.at[name] = 0
        i = rows[self.at[name]]
        self.at[name] += 1
        a, b = self.start[i], self.start[i + 1]
        return self.tokens[a:b], self.mark[a:b]


def period_copy(rng, _):
    """Random tokens repeated with a period: everything after the first period is predictable."""
    p = rng.integers(3, 9) if rng.random() < 0.6 else rng.integers(9, 25)
    t = np.tile(rng.integers(3, VOCAB, p), 8)[:max(24, int(p * rng.uniform(2, 3)))]
    return t, np.arange(len(t)) >= p


def shuffled_chunks(rng, _):
    """Chunks of random tokens in one order and then in another: a chunk's tail is predictable."""
    n, k, v = rng.integers(2, 13), rng.integers(1, 3), rng.integers(1, 4)
    chunks = rng.integers(3, VOCAB, (n, k + v))
    tail = np.tile(np.arange(k + v) >= k, (n, 1))
    again = chunks[rng.permutation(n)]
    return (np.concatenate([chunks.ravel(), again.ravel()]),
            np.concatenate([np.zeros(n * (k + v), bool), tail.ravel()]))


SYNTHETIC = {"copy_tokens": period_copy, "chunks": shuffled_chunks}
SYNTHETIC_MEAN = {"copy_tokens": 36, "chunks": 50}
# Weight of one answer token. Stories mark every token, so each counts little.
WEIGHT = {"story": 0.3, "chat_story": 0.3, "recall": 1.5, "recall_mid": 1.5, "recall_long": 1.5,
          "add": 2.0, "sort": 1.0, "qa": 1.5, "sql": 1.0, "json": 0.7, "copy": 0.7, "add_steps": 0.7,
          "copy_tokens": 0.5, "chunks": 0.5}

# Share of TOKENS of each task in a step.
FIRST = {"recall": .30, "chunks": .10, "copy": .10, "add": .10, "json": .08, "sql": .07, "sort": .07,
         "qa": .08, "add_steps": .05, "story": .05}
MAIN = {"recall": .03, "recall_mid": .12, "copy": .12, "add": .14, "add_steps": .06, "json": .07,
        "sql": .02, "sort": .10, "qa": .20, "story": .12, "chat_story": .02}
LONG = {"recall_long": .50, "recall_mid": .15, "story": .25, "copy": .05, "chat_story": .05}
# name, part of the budget after which it ends at the latest, goal on the first task, mix of (T, share, tasks)
PHASES = [
    ("copy", 0.12, 0.95, [(256, 1, {"copy_tokens": 1})]),
    ("chunks", 0.20, 0.93, [(256, 1, {"chunks": .7, "copy_tokens": .3})]),
    ("first", 0.24, None, [(256, 1, FIRST)]),
    ("main", 0.70, None, [(512, 1, MAIN)]),
    ("long", 1.00, None, [(512, .92, MAIN), (1024, .08, LONG)]),
]


def pack(rng, shard, T, tasks, B):
    """Fills B rows of T tokens with whole samples (stories may be cut) -> one batch."""
    most = B * T // 2
    names = list(tasks)
    mean = lambda n: SYNTHETIC_MEAN[n] if n in SYNTHETIC else min(shard.mean[n], T)
    p = np.array([tasks[n] / mean(n) for n in names])
    p /= p.sum()
    tokens, seg, pos = (np.zeros((B, T), np.int32) for _ in range(3))
    idx, target, weight = [], [], []
    for r in range(B):
        at, k, tries = 0, 1, 0
        while at < T - 8 and tries < 8:
            name = names[rng.choice(len(names), p=p)]
            t, m = SYNTHETIC[name](rng, T) if name in SYNTHETIC else shard.next(name, rng)
            if len(t) > T - at:
                if not name.endswith("story"):
                    tries += 1
                    continue
                t, m = t[:T - at], m[:T - at]
            n = len(t)
            tokens[r, at:at + n], seg[r, at:at + n], pos[r, at:at + n] = t, k, np.arange(n)
            hit = np.flatnonzero(m[1:])
            idx.append(r * T + at + hit)
            target.append(t[1:][hit])
            weight.append(np.full(len(hit), WEIGHT.get(name, 1.0), np.float32))
            at, k = at + n, k + 1
    idx, target, weight = np.concatenate(idx), np.concatenate(target), np.concatenate(weight)
    keep = rng.permutation(len(idx))[:most]
    fill = most - len(keep)
    return dict(tokens=tokens, seg=seg, pos=pos, idx=np.pad(idx[keep], (0, fill)).astype(np.int32),
                target=np.pad(target[keep], (0, fill)).astype(np.int32), weight=np.pad(weight[keep], (0, fill)))


# ---- checks, checkpoints, export -----------------------------------------------------------------

def check(states, p, shard, count, T=256):
    """Teacher-forced exact answers per task (all answer tokens right), and loss of story text."""
    B = SHAPES[T]
    line = []
    for name, rows in shard.by_task.items():
        rows = [i for i in rows[:2 * count] if shard.length[i] <= T][:count]
        if not rows:
            continue
        right, losses = 0, []
        for a in range(0, len(rows), B):
            tokens = np.zeros((B, T), np.int32)
            for j, i in enumerate(rows[a:a + B]):
                tokens[j, :shard.length[i]] = shard.tokens[shard.start[i]:shard.start[i + 1]]
            pred, ce = states(p, tokens)
            pred, ce = np.asarray(pred), np.asarray(ce)
            for j, i in enumerate(rows[a:a + B]):
                hit = np.flatnonzero(shard.mark[shard.start[i] + 1:shard.start[i + 1]])
                right += bool((pred[j, hit] == tokens[j, hit + 1]).all())
                losses.append(ce[j, hit].mean())
        line.append(f"{name} {np.mean(losses):.3f}" if name.endswith("story") else f"{name} {right / len(rows):.2f}")
    return "  ".join(line)


def make_states(c):
    def f(p, tokens):
        B, T = tokens.shape
        pos = jnp.tile(jnp.arange(T), (B, 1))
        logits = (hidden(p, c, tokens, jnp.ones_like(tokens), pos) @ p["embed"].T).reshape(B, T, VOCAB)
        nxt = jnp.roll(tokens, -1, 1)
        ce = jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(logits, nxt[..., None], -1)[..., 0]
        return logits.argmax(-1), ce
    return jax.jit(f)


def save(path, trees, meta):
    flat = {f"{k}{i}": np.asarray(x) for k, t in trees.items() for i, x in enumerate(jax.tree.leaves(t))}
    np.savez(path + ".tmp.npz", meta=json.dumps(meta), **flat)
    os.replace(path + ".tmp.npz", path)


def load(path, like):
    z = np.load(path)
    struct = jax.tree.structure(like)
    n = struct.num_leaves
    trees = [jax.tree.unflatten(struct, [jnp.asarray(z[f"{k}{i}"]) for i in range(n)]) for k in "pmv"]
    return *trees, json.loads(str(z["meta"]))


def rate(part):
    """Relative learning rate: high while circuits form, then lower, then linearly to nearly zero."""
    return 1.0 if part < 0.33 else 0.4 if part < 0.53 else max(0.01, 0.85 * (1 - part))


def train(args):
    c = SIZES[args.size]
    os.makedirs(args.out, exist_ok=True)
    path = os.path.join(args.out, "last.npz")
    log_file = open(os.path.join(args.out, "log.txt"), "a", buffering=1)

    def log(text):
        print(text, flush=True)
        log_file.write(text + "\n")

    p = init(c)
    m, v = jax.tree.map(jnp.zeros_like, p), jax.tree.map(jnp.zeros_like, p)
    meta = dict(step=0, elapsed=0.0, tokens=0, phase=0)
    if os.path.exists(path):
        p, m, v, meta = load(path, p)
    log(f"# {args.size}: {sum(x.size for x in jax.tree.leaves(p)):,} parameters, {args.minutes} minutes, from {meta}")
    step, states = make_step(c), make_states(c)
    rng = np.random.default_rng(meta["step"] + 1)
    shard = val = None
    base, t0, last_check, last_log = meta["elapsed"], time.time(), time.time(), time.time()
    accs = {}
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))  # saves and ends
    while not stop:
        meta["elapsed"] = base + time.time() - t0
        part = meta["elapsed"] / (args.minutes * 60)
        if part >= 1:
            break
        name, until, goal, mixes = PHASES[meta["phase"]]
        if (part > until or (goal and accs.get(256, 0) > goal)) and meta["phase"] + 1 < len(PHASES):
            if meta["phase"] != 1 or os.path.exists(os.path.join(args.data, "train.npz")):
                meta["phase"] += 1
                accs = {}
                log(f"# phase {PHASES[meta['phase']][0]} at step {meta['step']}, {meta['elapsed'] / 60:.1f} min")
                continue
        if shard is None and meta["phase"] >= 2:
            shard, val = Shard(os.path.join(args.data, "train.npz")), Shard(os.path.join(args.data, "val.npz"))
        T, _, tasks = mixes[rng.choice(len(mixes), p=[x[1] for x in mixes])]
        lr = min(1.0, (meta["step"] + 1) / 40) * rate(part)
        b = pack(rng, shard, T, tasks, SHAPES[T] // SMALLER.get(name, 1))
        p, m, v, loss, acc = step(p, m, v, meta["step"] + 1.0, lr, b)
        meta["step"] += 1
        meta["tokens"] += int((b["seg"] > 0).sum())
        accs[T] = 0.95 * accs.get(T, 0) + 0.05 * float(acc)
        if time.time() - last_log > 20:
            log(f"{meta['elapsed'] / 60:6.1f} min  step {meta['step']:6d}  {meta['tokens'] / 1e6:6.2f}M tokens  "
                f"{name}  lr {lr:.2f}  loss {float(loss):.3f}  acc " + " ".join(f"{k}:{a:.3f}" for k, a in sorted(accs.items())))
            last_log = time.time()
        if time.time() - last_check > args.check_every:
            save(path, dict(p=p, m=m, v=v), meta)
            if val:
                log(f"  check {check(states, p, val, 64)}")
            last_check = time.time()
    save(path, dict(p=p, m=m, v=v), meta)
    log(f"# done {meta}")
    if val and not stop:
        log(f"  check {check(states, p, val, 256)}")


if __name__ == "__main__":
    a = argparse.ArgumentParser()
    a.add_argument("--size", choices=SIZES, required=True)
    a.add_argument("--data", required=True)
    a.add_argument("--out", required=True)
    a.add_argument("--minutes", type=float, required=True)
    a.add_argument("--check-every", type=float, default=180)
    train(a.parse_args())
