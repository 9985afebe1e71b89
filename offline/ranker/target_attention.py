"""Target attention: the candidate asks, the history answers; so another candidate hears something else."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from offline.config import Hiformer as Config
from offline.towers.hiformer import norm
from offline.towers.projection import PerToken

NOTHING = -1e9


class Answers(NamedTuple):
    """What a history can say, whoever asks.

    Attributes:
        keys: float32[B, N, H, d_k].
        values: float32[B, N, H, d_v].
        places: float32[B, N, H], what each place of the history is worth; NOTHING past its end.
    """

    keys: jax.Array
    values: jax.Array
    places: jax.Array


class Heard(NamedTuple):
    """What candidates hear.

    Attributes:
        mixtures: float32[B, n, H · d_v], of the values.
        loudness: float32[B, n, H], the logarithm of the softmax's denominator, ≥ 0: how much of the history spoke. A
            mixture alone does not know one item from ten.
    """

    mixtures: jax.Array
    loudness: jax.Array


class TargetAttention(nnx.Module):
    """history float32[B, N, d], candidates float32[B, n, d] → mixtures of the history and how loud it was.

    Item i of the history weighs softmax(⟨q, k_i⟩ / √d_k + a · cos(i, candidate) + s · [i is the candidate] + b_place),
    with a, s and b learned for each head and the cosine that of the item tower's vectors. One more place is always
    there, whose logit and value are 0: a candidate to which nothing in the history speaks hears nothing, and neither
    does anybody from an empty history.
    """

    def __init__(self, length: int, width: int, config: Config, rngs: nnx.Rngs) -> None:
        self.heads = config.heads
        self.key = PerToken(1, width, config.heads * config.key_width, rngs)
        self.value = PerToken(1, width, config.heads * config.value_width, rngs)
        self.query = PerToken(1, width, config.heads * config.key_width, rngs)
        self.alike = nnx.Param(jnp.linspace(2.0, 10.0, config.heads))  # from all that is near to the nearest alone
        self.same = nnx.Param(jnp.zeros(config.heads))
        self.places = nnx.Param(jnp.zeros((length, config.heads)))

    def answers(self, history: jax.Array, there: jax.Array) -> Answers:
        """What histories (the latest first; bool[B, N] says where there is an item) can say."""
        history = norm(history)
        places = self.places[...][jnp.cumsum(there.astype(jnp.int32), axis=1) - 1]
        return Answers(
            self._split(self.key, history),
            self._split(self.value, history),
            jnp.where(there[..., None], places, NOTHING),
        )

    def ask(self, candidates: jax.Array, answers: Answers, cosines: jax.Array, same: jax.Array) -> Heard:
        """What candidates hear.

        Args:
            candidates: float32[B, n, d].
            answers: of histories of N items.
            cosines: float32[B, n, N], of each candidate with each item of the history.
            same: bool[B, n, N], which items of the history the candidates are themselves.
        """
        queries = self._split(self.query, norm(candidates))
        logits = jnp.einsum("bnhk,blhk->bnhl", queries, answers.keys) / jnp.sqrt(queries.shape[-1])
        logits += self.alike[...][:, None] * cosines[:, :, None] + self.same[...][:, None] * same[:, :, None]
        logits += jnp.swapaxes(answers.places, 1, 2)[:, None]
        highest = jax.lax.stop_gradient(jnp.maximum(jnp.max(logits, axis=-1, keepdims=True), 0))
        odds = jnp.exp(logits - highest)
        total = jnp.sum(odds, axis=-1, keepdims=True) + jnp.exp(-highest)
        mixtures = jnp.einsum("bnhl,blhv->bnhv", odds / total, answers.values)
        return Heard(mixtures.reshape(*candidates.shape[:2], -1), (jnp.log(total) + highest)[..., 0])

    def _split(self, projection: PerToken, items: jax.Array) -> jax.Array:
        """float32[B, n, d] → float32[B, n, H, d / H], all items through one matrix."""
        projected = projection(items.reshape(-1, 1, items.shape[-1]))
        return projected.reshape(*items.shape[:2], self.heads, projected.shape[-1] // self.heads)
