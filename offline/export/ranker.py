"""The ranker as two ONNX models, for one user and n candidates.

ranker_user.onnx  history_ids int32[items], history_vectors float32[items, D], the latest first, rows of zeros past
                  the end (and for who has no history), at most as many as the ranker was trained with; the user's
                  features, one row → what the other half takes
ranker_item.onnx  that, the two of the history again, and ids int32[candidates], vectors float32[candidates, D] and
                  features of the candidates → logits float32[candidates]
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bandit.models import RANKER_ITEM, RANKER_USER
from offline.export.onnx import convert, feature_inputs, features_of, of_shape
from offline.ranker.known import Known
from offline.ranker.ranker import Items, Ranker, UserSide
from offline.ranker.target_attention import Answers

HALF = ["user_keys", "user_values", "answer_keys", "answer_values", "answer_places"]
"""What the user's half gives to the item's."""


def models(model: Ranker, known: Known) -> dict[str, bytes]:
    """Both halves by their names in a bundle.

    Args:
        model: trained.
        known: some items and users, as the model reads them.
    """
    dimension, heads = known.vectors.shape[1], model.history.heads
    history = {
        "history_ids": of_shape(("items",), jnp.int32),
        "history_vectors": of_shape(("items", dimension), jnp.float32),
    }

    def user(arrays: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
        half = model.user(_items(arrays, "history_"), features_of(arrays, known.users, 1))
        return half.keys[0], half.values[0], *(answer[0] for answer in half.answers)

    def item(arrays: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
        keys, values, *answers = (arrays[name][None] for name in HALF)
        candidates = _items(arrays, "")
        half = UserSide(keys, values, Answers(*answers), _items(arrays, "history_"))
        return (model.item(half, candidates, features_of(arrays, known.items, candidates.ids.shape[1]))[0],)

    shares = [projection.factors[0].shape[1] for projection in model.projections()]
    widths = [projection.kernel.shape[2] // heads for projection in (model.history.key, model.history.value)]
    shapes = [*((share,) for share in shares), *(("items", heads, width) for width in widths), ("items", heads)]
    candidates = {
        "ids": of_shape(("candidates",), jnp.int32),
        "vectors": of_shape(("candidates", dimension), jnp.float32),
    }
    half = {name: of_shape(shape, jnp.float32) for name, shape in zip(HALF, shapes, strict=True)}
    return {
        RANKER_USER: convert(user, history | feature_inputs(known.users, 1), HALF, model.history.places.shape[0]),
        RANKER_ITEM: convert(item, half | history | candidates | feature_inputs(known.items, "candidates"), ["logits"]),
    }


def _items(arrays: dict[str, jax.Array], prefix: str) -> Items:
    return Items(arrays[f"{prefix}ids"][None], arrays[f"{prefix}vectors"][None])
