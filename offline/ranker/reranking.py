"""Re-ranking: the graph's best candidates of a user, and what the ranker says of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from numpy.typing import NDArray

from bandit.bundle import Bundle
from offline.data.timelines import PAD
from offline.evaluation import ranking, sparse_graph
from offline.features.fields import Fields
from offline.ranker.known import Known
from offline.ranker.ranker import Items, Ranker

_CHUNK = 64


def best(bundle: Bundle, number: int) -> NDArray[np.int32]:
    """int32[U, number], each user's best candidates by the bundle's prior, the best first; PAD where it has fewer."""
    chunks = []
    for start in range(0, bundle.manifest.counts.users, _CHUNK):
        users = np.arange(start, min(start + _CHUNK, bundle.manifest.counts.users), dtype=np.int32)
        scores = sparse_graph.scores(bundle, users)
        found = ranking.top(scores, number)
        chunks.append(np.where(np.take_along_axis(scores, found, axis=1) > 0, found, PAD).astype(np.int32))
    return np.concatenate(chunks)


def logits(
    model: Ranker,
    known: Known,
    users: NDArray[np.int32],
    histories: NDArray[np.int32],
    candidates: NDArray[np.int32],
) -> NDArray[np.float32]:
    """What the ranker says, float32[n, K]; −∞ for PAD.

    Args:
        model: trained.
        known: all items and users.
        users: int32[n].
        histories: int32[n, N], item numbers.
        candidates: int32[n, K], item numbers.
    """
    rows = np.minimum(np.arange(-(-len(users) // _CHUNK) * _CHUNK), len(users) - 1)  # chunks of one shape
    said = [
        np.asarray(
            _said(
                model,
                known.some(histories[part]),
                known.user_fields(users[part]),
                known.some(candidates[part]),
                known.item_fields(candidates[part]),
            )
        )
        for part in rows.reshape(-1, _CHUNK)
    ]
    return np.where(candidates == PAD, -np.inf, np.concatenate(said)[: len(users)]).astype(np.float32)


@nnx.jit
def _said(model: Ranker, history: Items, users: Fields, candidates: Items, items: Fields) -> jax.Array:
    def arrays(found: ArrayLike) -> jax.Array:
        return jnp.asarray(found)

    return model(*(jax.tree.map(arrays, part) for part in (history, users, candidates, items)))
