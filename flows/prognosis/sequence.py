"""A Transformer over the charges of a cell so far, beside trees: the same charges, the same folds (JAX, extra `jax`).

Self-attention as Vaswani et al., "Attention is all you need" (2017), with norms before each part (Xiong et al., "On
layer normalization in the Transformer architecture", 2020).  A token is one of the last charges, thinned; the last
token's output, through one linear layer, is SOH.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from flows.prognosis.charges import Charges, Floats
from flows.prognosis.features import features
from flows.prognosis.split import Fold

Params = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SequenceConfig:
    """What a token is, how large the network, how long it learns."""

    tokens: int = 16
    apart: int = 6  # charges between tokens
    width: int = 48
    heads: int = 4
    layers: int = 2
    steps: int = 900
    batch: int = 128
    rate: float = 2e-3
    decay: float = 1e-2

    def __post_init__(self) -> None:
        """Refuse sizes below one, and heads that do not share the width."""
        for name in self.__dataclass_fields__:
            if not getattr(self, name) > 0:
                msg = f"{name} must be > 0; got {getattr(self, name)}"
                raise ValueError(msg)
        if self.width % self.heads:
            msg = f"width must be a multiple of heads; got {self.width} and {self.heads}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """A trained network and the scale of its inputs."""

    cfg: SequenceConfig
    middle: Floats  # (F,)
    width: Floats  # (F,)
    start: float  # mean of the targets
    scale: float
    params: Params


def tokens_of(cfg: SequenceConfig, charges: Charges) -> NDArray[np.int64]:
    """Give for each charge the rows (N, tokens) of itself and earlier ones of its cell, oldest first; −1 = none."""
    back = np.arange(cfg.tokens - 1, -1, -1) * cfg.apart
    rows = np.arange(len(charges))[:, None] - back
    return np.where(back <= charges.nth()[:, None], rows, -1)


def inputs(charges: Charges) -> Floats:
    """Give what a token holds (N, F): the measured columns, how they changed since the beginning, and the count."""
    return features(charges, "count")


def fit(
    cfg: SequenceConfig, x: Floats, tokens: NDArray[np.int64], soh: Floats, rows: NDArray[np.int64], seed: int
) -> Sequence:
    """Train on some `rows` of inputs (N, F), tokens (N, T) and SOH (N,)."""
    with np.errstate(all="ignore"):
        known = x[rows]
        middle = np.nan_to_num(np.nanmedian(known, axis=0))
        low, high = np.nanquantile(known, (0.05, 0.95), axis=0)
    width = np.where(high - low > 1e-12, (high - low) / 3.3, np.inf)  # noqa: PLR2004 - widths of a normal law between these
    start, scale = float(soh[rows].mean()), float(soh[rows].std()) or 1.0
    z = _scaled(x, middle, width)
    key = jax.random.key(seed)
    params = _empty(cfg, x.shape[1], key)
    moments = (jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params))
    draw = np.random.default_rng(seed)
    for step in range(cfg.steps):
        picked = draw.choice(rows, cfg.batch)
        y = jnp.asarray((soh[picked] - start) / scale, jnp.float32)
        params, moments = _step(cfg, params, moments, *_batch(z, tokens[picked]), y, jnp.float32(step))
    return Sequence(cfg, middle, width, start, scale, jax.tree.map(np.asarray, params))


def predict(
    model: Sequence, x: Floats, tokens: NDArray[np.int64], rows: NDArray[np.int64], batch: int = 1024
) -> Floats:
    """Give SOH (R,) of some rows; each for itself."""
    z = _scaled(x, model.middle, model.width)
    out = np.empty(len(rows))
    for at in range(0, len(rows), batch):
        some = rows[at : at + batch]
        padded = np.resize(some, batch) if len(rows) > batch else some  # one shape: one compilation
        got = np.asarray(_apply(model.cfg, model.params, *_batch(z, tokens[padded])))
        out[at : at + batch] = got[: len(some)]
    return model.start + model.scale * out


def out_of_fold(cfg: SequenceConfig, charges: Charges, fold: Fold, seed: int) -> tuple[Floats, Sequence]:
    """Predict SOH (N,) of every charge by networks that saw other cells only; gives the last network too."""
    x, tokens = inputs(charges), tokens_of(cfg, charges)
    out, model = np.empty(len(charges)), None
    for one in np.unique(fold):
        model = fit(cfg, x, tokens, charges.soh, np.flatnonzero(fold != one), seed)
        test = np.flatnonzero(fold == one)
        out[test] = predict(model, x, tokens, test)
    assert model is not None
    return out, model


def bytes_of(model: Sequence) -> int:
    """Give the size of a network's parameters in bytes."""
    return sum(int(leaf.nbytes) for leaf in jax.tree.leaves(model.params))


def _scaled(x: Floats, middle: Floats, width: Floats) -> NDArray[np.float32]:
    with np.errstate(invalid="ignore"):
        z = np.clip((x - middle) / width, -4.0, 4.0)
    return np.asarray(np.where(np.isnan(z), 0.0, z), np.float32)


def _batch(z: NDArray[np.float32], tokens: NDArray[np.int64]) -> tuple[jax.Array, jax.Array]:
    here = tokens >= 0
    return jnp.asarray(z[np.maximum(tokens, 0)] * here[..., None]), jnp.asarray(here)


def _empty(cfg: SequenceConfig, inputs: int, key: jax.Array) -> Params:
    keys = iter(jax.random.split(key, 3 + 4 * cfg.layers))

    def dense(rows: int, columns: int, share: float = 1.0) -> jax.Array:
        return share * jax.random.normal(next(keys), (rows, columns)) / jnp.sqrt(rows)

    d = cfg.width
    layers = [
        {"qkv": dense(d, 3 * d), "out": dense(d, d, 0.5), "up": dense(d, 2 * d), "down": dense(2 * d, d, 0.5),
         "norm1": jnp.ones(d), "norm2": jnp.ones(d), "bias": jnp.zeros(2 * d)}
        for _ in range(cfg.layers)
    ]  # fmt: skip
    return {
        "in": dense(inputs, d), "place": 0.1 * jax.random.normal(next(keys), (cfg.tokens, d)), "layers": layers,
        "norm": jnp.ones(d), "head": dense(d, 1, 0.5), "offset": jnp.zeros(()), "plane": jnp.zeros(inputs),
    }  # fmt: skip


def _norm(x: jax.Array, gain: jax.Array) -> jax.Array:
    x = x - x.mean(-1, keepdims=True)
    return gain * x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)


@partial(jax.jit, static_argnums=0)
def _apply(cfg: SequenceConfig, params: Params, z: jax.Array, here: jax.Array) -> jax.Array:
    batch, tokens, _ = z.shape
    x = z @ params["in"] + params["place"]
    mask = jnp.where(here, 0.0, -1e9)[:, None, None, :]
    for layer in params["layers"]:
        q, k, v = jnp.split(_norm(x, layer["norm1"]) @ layer["qkv"], 3, axis=-1)
        q, k, v = (a.reshape(batch, tokens, cfg.heads, -1).transpose(0, 2, 1, 3) for a in (q, k, v))
        seen = jax.nn.softmax(q @ k.transpose(0, 1, 3, 2) / jnp.sqrt(cfg.width // cfg.heads) + mask)
        x = x + (seen @ v).transpose(0, 2, 1, 3).reshape(batch, tokens, -1) @ layer["out"]
        x = x + jax.nn.gelu(_norm(x, layer["norm2"]) @ layer["up"] + layer["bias"]) @ layer["down"]
    last = _norm(x[:, -1], params["norm"])
    out: jax.Array = (last @ params["head"])[:, 0] + params["offset"] + z[:, -1] @ params["plane"]
    return out


@partial(jax.jit, static_argnums=0)
def _step(
    cfg: SequenceConfig, params: Params, moments: tuple[Params, Params], z: jax.Array, here: jax.Array, y: jax.Array,
    step: jax.Array,
) -> tuple[Params, tuple[Params, Params]]:  # fmt: skip
    """Take one step of AdamW (Loshchilov and Hutter, 2019) along a cosine."""
    slope = jax.grad(lambda p: jnp.mean(jnp.abs(_apply(cfg, p, z, here) - y)))(params)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments[0], slope)
    second = jax.tree.map(lambda m, g: 0.99 * m + 0.01 * g * g, moments[1], slope)
    warm = jnp.minimum(1.0, (step + 1.0) / 50.0)
    rate = cfg.rate * warm * 0.5 * (1.0 + jnp.cos(jnp.pi * step / cfg.steps))

    def moved(p: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
        m, v = m / (1.0 - 0.9 ** (step + 1.0)), v / (1.0 - 0.99 ** (step + 1.0))
        return p - rate * (m / (jnp.sqrt(v) + 1e-8) + cfg.decay * p)

    return jax.tree.map(moved, params, first, second), (first, second)
