"""What each paper writes, one row after another, in plain numpy and float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline.interactions.autoint import AutoInt
from offline.interactions.dcn_v2 import Cross, DcnV2
from offline.interactions.deep import Beside, Deep, Network
from offline.interactions.dlrm import Dlrm
from offline.interactions.hiformer import Hiformer
from offline.interactions.transformer import Transformer
from tests.offline.towers import reference

Array = NDArray[np.float64]


def interaction(model: Any, tokens: Array) -> Array:
    """tokens float64[L, d] → float64[n], whichever it is."""
    return np.asarray(_OF[type(model)](model, tokens))


def linear(layer: Any, values: Array) -> Array:
    """x W + b."""
    found = values @ np.asarray(layer.kernel[...], np.float64)
    return found if layer.bias is None else np.asarray(found + np.asarray(layer.bias[...]))


def softmax(values: Array) -> Array:
    """Over a vector."""
    found = np.exp(values - values.max())
    return np.asarray(found / found.sum())


def network(found: Network, values: Array) -> Array:
    """ReLU(BN(x W + b)), with the mean and variance that the layer has kept."""
    for layer, norm in zip(found.layers, found.norms, strict=True):
        kept: list[Any] = [norm.mean, norm.var, norm.scale, norm.bias]
        mean, variance, scale, bias = (np.asarray(part[...]) for part in kept)
        normed = (linear(layer, values) - mean) / np.sqrt(variance + 1e-5) * scale + bias
        values = np.maximum(normed, 0)
    return values


def deep(found: Deep, tokens: Array) -> Array:
    """Over concat(e_1 … e_L)."""
    return network(found.network, np.concatenate(list(tokens)))


def beside(found: Beside, tokens: Array) -> Array:
    """Both."""
    return np.concatenate([interaction(found.one, tokens), interaction(found.other, tokens)])


def cross(found: Cross, tokens: Array) -> Array:
    """x_{l+1} = x_0 ⊙ (W_l x_l + b_l) + x_l."""
    first = crossed = np.concatenate(list(tokens))
    for layer in found.layers:
        crossed = first * linear(layer, crossed) + crossed
    return crossed


def dlrm(found: Dlrm, tokens: Array) -> Array:
    """⟨e_i, e_j⟩ for i < j, the dense tokens, the network."""
    pairs = [tokens[i] @ tokens[j] for i in range(len(tokens)) for j in range(i + 1, len(tokens))]
    return network(found.network, np.array([*pairs, *tokens[found.first_dense :].ravel()]))


def autoint(found: AutoInt, tokens: Array) -> Array:
    """ê_i = ReLU(concat_h Σ_j softmax_j⟨W_Q e_i, W_K e_j⟩ W_V e_j + W_Res e_i)."""
    for layer in found.layers:
        queries, keys, values = (linear(part, tokens) for part in (layer.query, layer.key, layer.value))
        mixed = np.zeros_like(queries)
        for head in range(layer.heads):
            own = slice(head * layer.head_width, (head + 1) * layer.head_width)
            for i in range(len(tokens)):
                mixed[i, own] = softmax(keys[:, own] @ queries[i, own]) @ values[:, own]
        tokens = np.maximum(mixed + linear(layer.residual, tokens), 0)
    return np.concatenate(list(tokens))


def transformer(found: Transformer, tokens: Array) -> Array:
    """Every layer computes all tokens; the task tokens are read at the end."""
    tokens = np.concatenate([np.asarray(found.tasks.values[...], np.float64), tokens])
    for layer in found.layers:
        normed = reference.norm(tokens)
        queries, keys, values = (linear(part, normed) for part in (layer.query, layer.key, layer.value))
        d_k, d_v = keys.shape[1] // layer.heads, values.shape[1] // layer.heads
        mixed = np.zeros_like(values)
        for h in range(layer.heads):
            k, v = slice(h * d_k, (h + 1) * d_k), slice(h * d_v, (h + 1) * d_v)
            for i in range(len(tokens)):
                mixed[i, v] = softmax(keys[:, k] @ queries[i, k] / np.sqrt(d_k)) @ values[:, v]
        tokens = tokens + linear(layer.output, mixed)
        tokens = tokens + linear(layer.outer, reference.gelu(linear(layer.inner, reference.norm(tokens))))
    return np.concatenate(list(tokens[: found.tasks.count]))


def hiformer(found: Hiformer, tokens: Array) -> Array:
    """The towers' own reference, with the task tokens in front."""
    tasks = np.asarray(found.tasks.values[...], np.float64)
    return np.concatenate(list(reference.hiformer(found.layers, np.concatenate([tasks, tokens]))))


_OF: dict[type, Any] = {
    Deep: deep,
    Beside: beside,
    DcnV2: beside,
    Cross: cross,
    Dlrm: dlrm,
    AutoInt: autoint,
    Transformer: transformer,
    Hiformer: hiformer,
}
