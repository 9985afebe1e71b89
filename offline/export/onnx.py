"""Functions as ONNX models."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bandit.models import HISTORY_LENGTH
from offline.features.fields import Fields

Inputs = Mapping[str, jax.ShapeDtypeStruct]


def of_shape(shape: tuple[int | str, ...], kind: Any) -> jax.ShapeDtypeStruct:
    """An input of a shape, in which a string names an axis of any length, and a dtype."""
    return jax.ShapeDtypeStruct(shape, kind)  # type: ignore[no-untyped-call]


def convert(
    function: Callable[[dict[str, jax.Array]], tuple[jax.Array, ...]],
    inputs: Inputs,
    outputs: list[str],
    history_length: int | None = None,
) -> bytes:
    """A function as an ONNX model, its constants inside.

    Args:
        function: named arrays → as many arrays as there are outputs. It is traced, so it must not ask an array's len.
        inputs: the arrays by name; an axis whose size is a string may be of any length.
        outputs: what the results are called.
        history_length: how long a history the model was trained with, for who runs it; None where it reads none.
    """
    # Its plugins for what we do not use complain of the JAX that is installed.
    for name in ("jax2onnx", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # They take seconds to import, and most runs do without.
        from jax2onnx import to_onnx  # noqa: PLC0415
        from onnx import helper  # noqa: PLC0415

        model = to_onnx(
            lambda *arrays: function(dict(zip(inputs, arrays, strict=True))),
            list(inputs.values()),
            input_names=list(inputs),
            output_names=outputs,
        )
    if history_length is not None:
        helper.set_model_props(model, {HISTORY_LENGTH: str(history_length)})
    return bytes(model.SerializeToString())


def feature_inputs(features: Any, rows: str | int) -> dict[str, jax.ShapeDtypeStruct]:
    """The arrays that describe rows, by name; bags of words may be of any size.

    Args:
        features: of some rows, `fields.Fields` or the bags of `tokens.bags`.
        rows: how many rows there are, a number or a name.
    """
    return {
        name: of_shape((rows, f"{name}_a_row") if array.dtype == np.int32 else (rows, array.shape[1]), array.dtype)
        for name, array in feature_arrays(features).items()
    }


def feature_arrays(features: Any) -> dict[str, Any]:
    """Features as arrays by name: `words_0`, …, `numbers`, `vectors_0`, …, or `tokens`; what is empty is left out."""
    if not isinstance(features, Fields):
        return {"tokens": features}
    several = {"words": features.words, "vectors": features.vectors}
    named = {f"{name}_{place}": array for name, arrays in several.items() for place, array in enumerate(arrays)}
    return named | ({"numbers": features.numbers} if features.numbers.shape[1] else {})


def features_of(arrays: Mapping[str, Any], like: Any, rows: Any) -> Any:
    """The inverse of `feature_arrays`: features of the kind of `like`, of `rows` rows."""
    if not isinstance(like, Fields):
        return arrays["tokens"]
    words, vectors = (
        tuple(arrays[f"{name}_{place}"] for place in range(len(several)))
        for name, several in (("words", like.words), ("vectors", like.vectors))
    )
    numbers: Any = arrays["numbers"] if "numbers" in arrays else jnp.zeros((rows, 0))
    return Fields(words, numbers, vectors)
