"""The ranker: how likely a user takes each of some candidates, by everything that is known of both."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from offline.batches import UNKNOWN
from offline.config import Rank
from offline.features.fields import Fields
from offline.ranker.target_attention import Answers, TargetAttention
from offline.towers.embedding import EMBEDDING
from offline.towers.hiformer import Layer, norm
from offline.towers.preprocess import Preprocess
from offline.towers.projection import Composite, PerToken


class Items(NamedTuple):
    """Some items of each of B users.

    Attributes:
        ids: int32[B, n], as the item tower knows them; UNKNOWN for those without interactions.
        vectors: float32[B, n, D], the item tower's, of length 1; 0 where there is no item.
    """

    ids: jax.Array
    vectors: jax.Array


class UserSide(NamedTuple):
    """All that depends on the user alone.

    Attributes:
        keys, values: float32[B, r_k] and float32[B, r_v], the task's and the user's tokens' share in the layer's first
            products.
        answers: what the history says to who asks.
        history: its items.
    """

    keys: jax.Array
    values: jax.Array
    answers: Answers
    history: Items


class Ranker(nnx.Module):
    """history of N items, user fields of B rows; n candidates and their fields of B · n rows → logits float32[B, n].

    Tokens: a task token, the user's features, what the candidate hears from the history (`TargetAttention`), the
    candidate by itself and its features; one Hiformer layer, pruned to the task token. Since tokens are normed, what
    lies in a token's size is added to the logit beside the layer: how loud the history was, and the item's popularity.

    It is computed in two halves, `user` and `item`, of which only the second depends on the candidates. That is exact:
    tokens are normed one by one, and the layer's first product is a sum over tokens.

    Args:
        num_items: J.
        dimension: D.
        buckets: of the hashed words.
        items, users: fields of some rows; their shapes decide the ranker's.
        config: its sizes.
    """

    def __init__(
        self, num_items: int, dimension: int, buckets: int, items: Fields, users: Fields, config: Rank, rngs: nnx.Rngs
    ) -> None:
        width, layer = config.width, config.hiformer
        small = nnx.initializers.normal(EMBEDDING)
        self.task = nnx.Param(small(rngs.params(), (1, width)))
        self.embedding = nnx.Embed(num_items + 1, width, embedding_init=small, rngs=rngs)
        self.popularity = nnx.Embed(num_items + 1, 1, embedding_init=nnx.initializers.zeros, rngs=rngs)
        self.vector = PerToken(1, dimension, width, rngs)
        self.history = TargetAttention(config.history_length, width, layer, rngs)
        self.heard = PerToken(1, layer.heads * (layer.value_width + 1), width, rngs)
        self.loud = PerToken(1, layer.heads, 1, rngs, scale=0.0)
        self.users = Preprocess(users, layer.dense_tokens, buckets, width, rngs)
        self.items = Preprocess(items, layer.dense_tokens, buckets, width, rngs)
        self.of_user = 1 + self.users.num_tokens
        self.layer = Layer(self.of_user + 2 + self.items.num_tokens, 1, width, layer, rngs)
        self.output = PerToken(1, width, 1, rngs, scale=0.0)

    def __call__(self, history: Items, users: Fields, candidates: Items, items: Fields) -> jax.Array:
        """See the class."""
        return self.item(self.user(history, users), candidates, items)

    def user(self, history: Items, users: Fields) -> UserSide:
        """The half that is computed once a request."""
        there = jnp.any(history.vectors != 0, axis=-1)
        tokens = norm(self.user_tokens(users))
        keys, values = (projection.share(tokens, 0) for projection in self.projections())
        ids = jnp.where(there, history.ids, UNKNOWN)
        answers = self.history.answers(self._represent(history), there)
        return UserSide(keys, values, answers, history._replace(ids=ids))

    def item(self, user: UserSide, candidates: Items, items: Fields) -> jax.Array:
        """The half that is computed for each candidate."""
        tokens, beside = self.item_tokens(user, candidates, items)
        tokens = norm(tokens)

        def finish(projection: Composite, share: jax.Array) -> jax.Array:
            own = projection.share(tokens, self.of_user).reshape(*candidates.ids.shape, -1)
            return projection.finish((own + share[:, None]).reshape(-1, share.shape[-1]))

        keys, values = map(finish, self.projections(), (user.keys, user.values))
        task = jnp.broadcast_to(self.task[...], (tokens.shape[0], *self.task.shape))
        return beside + self.output(self.layer.answer(task, keys, values)).reshape(candidates.ids.shape)

    def user_tokens(self, users: Fields) -> jax.Array:
        """float32[B, 1 + F, d], the task's and the user's."""
        features = self.users(users)
        task = jnp.broadcast_to(self.task[...], (features.shape[0], *self.task.shape))
        return jnp.concatenate([task, features], axis=1)

    def item_tokens(self, user: UserSide, candidates: Items, items: Fields) -> tuple[jax.Array, jax.Array]:
        """float32[B · n, 2 + F, d], the candidates', and float32[B, n], what is added to their logits beside them."""
        itself = self._represent(candidates)
        cosines = jnp.einsum("bnd,bld->bnl", candidates.vectors, user.history.vectors)
        same = (candidates.ids[:, :, None] == user.history.ids[:, None]) & (candidates.ids[:, :, None] != UNKNOWN)
        mixtures, loudness = self.history.ask(itself, user.answers, cosines, same)
        heard = EMBEDDING * self._each(self.heard, jnp.concatenate([mixtures, loudness], axis=-1))
        pair = jnp.stack([heard, itself], axis=2).reshape(-1, 2, itself.shape[-1])
        beside = self._each(self.loud, loudness) + self.popularity(candidates.ids)
        return jnp.concatenate([pair, self.items(items)], axis=1), beside[..., 0]

    def _represent(self, items: Items) -> jax.Array:
        """float32[B, n, d], what an item is by its id and its vector."""
        scaled = jnp.sqrt(items.vectors.shape[-1]) * items.vectors  # so that entries are as large as numbers
        return self.embedding(items.ids) + EMBEDDING * self._each(self.vector, scaled)

    def _each(self, projection: PerToken, rows: jax.Array) -> jax.Array:
        """float32[B, n, k] → float32[B, n, m], all rows through one matrix."""
        return projection(rows.reshape(-1, 1, rows.shape[-1])).reshape(*rows.shape[:2], -1)

    def projections(self) -> tuple[Composite, Composite]:
        """The layer's, of keys and of values."""
        key, value = self.layer.key, self.layer.value
        if not isinstance(key, Composite) or not isinstance(value, Composite):
            raise TypeError("the ranker's keys and values are made of all tokens: projection full_rank or low_rank")
        return key, value
