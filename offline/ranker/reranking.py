"""Re-ranking: the graph's best candidates of a user, and what the ranker says of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from numpy.typing import NDArray

from bandit import kernel
from bandit.bundle import Bundle
from bandit.context import Context
from bandit.kernel import Workspace
from bandit.policies.base import Derived
from offline.data.timelines import PAD
from offline.features.fields import Fields
from offline.ranker.known import Known
from offline.ranker.ranker import Items, Ranker

_CHUNK = 64


def best(bundle: Bundle, number: int) -> NDArray[np.int32]:
    """int32[U, number], each user's best candidates by the bundle's prior, the best first; PAD past the end.

    That is what the service ranks where nobody has answered yet.
    """
    prior, nobody = bundle.prior.probability, np.zeros(0, dtype=np.int32)
    derived, workspace = Derived(prior, prior), Workspace(bundle.graph.num_items)
    found = np.full((bundle.manifest.counts.users, number), PAD, dtype=np.int32)
    for user, size in enumerate(np.count_nonzero(bundle.user_weights, axis=1)):
        context = Context(bundle.user_clusters[user, :size], bundle.user_weights[user, :size])
        scored = kernel.score(bundle.graph, context, derived, nobody, workspace)
        chosen = scored.items[kernel.best(scored.scores, number)]
        found[user, : len(chosen)] = chosen
    return found


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
