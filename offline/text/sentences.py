"""Sentence vectors by WordLlama: means of token embeddings that were trained on pairs of sentences (an extra).

The weights come with the package, so nothing is downloaded; see <https://github.com/dleemiller/WordLlama>. It is under
the MIT licence; its tokens' vectors were made from those of published language models, Llama 2 among them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from offline.errors import ConfigError

WIDEST = 256


@dataclass(frozen=True)
class Sentences:
    """The encoder; there is nothing to fit."""

    dimension: int

    @classmethod
    def fit(cls, texts: Sequence[str], dimension: int) -> Self:  # noqa: ARG003
        """See `Encoder`."""
        if dimension > WIDEST:
            raise ConfigError(f"train.text.dimension: sentences have at most {WIDEST}, not {dimension}")
        _model()
        return cls(dimension)

    @classmethod
    def from_state(cls, state: dict[str, NDArray[Any]]) -> Self:
        """See `Encoder`."""
        return cls(int(state["dimension"][0]))

    def state(self) -> dict[str, NDArray[Any]]:
        """See `Encoder`."""
        return {"dimension": np.array([self.dimension], dtype=np.int64)}

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Encoder`."""
        found = np.zeros((len(texts), self.dimension), dtype=np.float32)
        said = [row for row, text in enumerate(texts) if text.strip()]
        if said:
            found[said] = _model().embed([texts[row] for row in said])[:, : self.dimension]
        lengths: NDArray[np.float32] = np.linalg.norm(found, axis=1, keepdims=True)
        return np.asarray(found / np.maximum(lengths, 1e-12), dtype=np.float32)


@cache
def _model() -> Any:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        import wordllama  # noqa: PLC0415  an extra
    except ImportError as error:
        raise ConfigError(
            'train.text.encoder: "sentences" needs the package wordllama: run '
            '`pip install "online-matching[sentences]"` (in a checkout `pip install ".[sentences]"`), '
            'or set encoder = "tfidf"'
        ) from error
    root.handlers = handlers  # the import has set up logging for everybody
    root.setLevel(level)
    folder = Path(wordllama.__file__).parent  # holds its weights and tokenizer
    return wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
