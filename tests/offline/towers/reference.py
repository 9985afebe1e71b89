"""Hiformer as the paper writes it, one vector after another, in plain numpy and float64."""

from __future__ import annotations

from math import erf

import jax
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from offline.towers.hiformer import Hiformer, Layer
from offline.towers.projection import Composite, PerToken

Array = NDArray[np.float64]


def weight(parameter: nnx.Param[jax.Array]) -> Array:
    """A parameter, e.g. of [..., inputs, outputs], as the matrix that multiplies: divided by √inputs."""
    value = np.asarray(parameter[...], dtype=np.float64)
    return np.asarray(value / np.sqrt(value.shape[-2]))


def per_token(projection: PerToken, tokens: Array) -> Array:
    """e_i W_i + b_i."""
    kernel, bias = weight(projection.kernel), np.asarray(projection.bias[...])
    return np.stack([token @ kernel[i] + bias[i] for i, token in enumerate(tokens)])


def composite(projection: Composite, tokens: Array) -> Array:
    """[k̂_1 … k̂_L] = concat(e_1 … e_L) K̂, with K̂ = L R for low ranks."""
    kernel = weight(projection.factors[0])
    for factor in projection.factors[1:]:
        kernel = kernel @ weight(factor)
    bias = np.asarray(projection.bias[...])
    return np.asarray((np.concatenate(list(tokens)) @ kernel).reshape(bias.shape) + bias)


def project(projection: PerToken | Composite, tokens: Array) -> Array:
    """Either."""
    return per_token(projection, tokens) if isinstance(projection, PerToken) else composite(projection, tokens)


def layer(found: Layer, tokens: Array) -> Array:
    """φ^h_ij = ⟨q^h_i, k^h_j⟩ / √d_k;  o_i = concat_h( Σ_j softmax_j(φ^h_ij) v^h_j ) O_i;  then FFN_i; pre-norm."""
    kept = found.outputs
    normed = norm(tokens)
    queries = project(found.query, normed[:kept])
    keys, values = project(found.key, normed), project(found.value, normed)
    attended = np.zeros((kept, values.shape[1]))
    d_k, d_v = keys.shape[1] // found.heads, values.shape[1] // found.heads
    for i in range(kept):
        for h in range(found.heads):
            own = slice(h * d_k, (h + 1) * d_k)
            scores = np.array([queries[i, own] @ keys[j, own] / np.sqrt(d_k) for j in range(len(tokens))])
            attention = np.exp(scores - scores.max())
            attention /= attention.sum()
            for j in range(len(tokens)):
                attended[i, h * d_v : (h + 1) * d_v] += attention[j] * values[j, h * d_v : (h + 1) * d_v]
    tokens = tokens[:kept] + per_token(found.output, attended)
    inner = per_token(found.inner, norm(tokens))
    return tokens + per_token(found.outer, gelu(inner))


def hiformer(found: Hiformer, tokens: Array) -> Array:
    """All layers."""
    for one in found.layers:
        tokens = layer(one, tokens)
    return tokens


def norm(tokens: Array) -> Array:
    """Each token with mean 0 and variance 1."""
    centred = tokens - tokens.mean(axis=-1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5))


def gelu(values: Array) -> Array:
    """x Φ(x)."""
    return np.asarray(values * 0.5 * (1 + np.vectorize(erf)(values / np.sqrt(2))))
