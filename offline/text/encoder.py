"""The encoder: what makes a vector of a text, how it is chosen, and how it is kept for items that come later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from offline.config import Text
from offline.text.sentences import Sentences
from offline.text.tfidf import Tfidf


class Encoder(Protocol):
    """Turns texts into vectors: the same text always into the same."""

    @classmethod
    def fit(cls, texts: Sequence[str], dimension: int) -> Self:
        """Learn from texts what there is to learn; D = `dimension`.

        Raises:
            ConfigError: the encoder has no such dimension, or a package is missing.
        """
        ...

    @classmethod
    def from_state(cls, state: dict[str, NDArray[Any]]) -> Self:
        """The encoder of which this is the `state`."""
        ...

    def state(self) -> dict[str, NDArray[Any]]:
        """All that it has learned, as arrays."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[n, D], of length 1; 0 for a text that tells nothing."""
        ...


_ENCODERS: dict[str, type[Tfidf] | type[Sentences]] = {"tfidf": Tfidf, "sentences": Sentences}


def fit(config: Text, texts: Sequence[str]) -> Encoder | None:
    """The configured encoder, fitted to these texts; None where none is wanted or no text says anything."""
    said = [text for text in texts if text.strip()]
    if config.encoder == "none" or not said:
        return None
    return _ENCODERS[config.encoder].fit(said, config.dimension)


def pack(encoder: Encoder) -> bytes:
    """As a safetensors file; its arrays are called <encoder>/<name>."""
    (kind,) = [name for name, known in _ENCODERS.items() if isinstance(encoder, known)]
    return bytes(safetensors.numpy.save({f"{kind}/{name}": array for name, array in encoder.state().items()}))


def unpack(content: bytes) -> Encoder:
    """From what `pack` made: it encodes any text as the packed one did."""
    arrays = safetensors.numpy.load(content)
    (kind,) = {name.partition("/")[0] for name in arrays}
    return _ENCODERS[kind].from_state({name.partition("/")[2]: array for name, array in arrays.items()})
