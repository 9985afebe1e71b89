"""Hashed TF-IDF, reduced by a singular value decomposition: latent semantic analysis (Deerwester et al. 1990).

Words that occur together come to lie together, so that texts which share no word may still be near. Pieces of words
are counted beside the words: "mug" and "mugs" are two words, but share most pieces. Hashing needs no vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.preprocessing import normalize

BUCKETS = 1 << 17
PIECES = (3, 4)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Tfidf:
    """The fitted encoder: what it knows of the n buckets that it has seen; others would tell it nothing.

    Attributes:
        buckets: int32[n], ascending.
        idf: float32[n], how rare each is: log((1 + texts) / (1 + texts that hold it)) + 1.
        components: float32[D, n], the right singular vectors; 0 beyond the rank of what was fitted.
    """

    buckets: NDArray[np.int32]
    idf: NDArray[np.float32]
    components: NDArray[np.float32]

    @classmethod
    def fit(cls, texts: Sequence[str], dimension: int) -> Self:
        """See `Encoder`."""
        counts = _count(texts)
        buckets = np.unique(counts.indices)
        counts = counts[:, buckets]
        idf = TfidfTransformer().fit(counts).idf_.astype(np.float32)
        rank = min(dimension, *counts.shape)
        components = np.zeros((dimension, len(buckets)), dtype=np.float32)
        components[:rank] = TruncatedSVD(rank, random_state=0).fit(_weigh(counts, idf)).components_
        return cls(buckets, idf, components)

    @classmethod
    def from_state(cls, state: dict[str, NDArray[Any]]) -> Self:
        """See `Encoder`."""
        return cls(**state)

    def state(self) -> dict[str, NDArray[Any]]:
        """See `Encoder`."""
        return {"buckets": self.buckets, "idf": self.idf, "components": self.components}

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Encoder`."""
        counts = _count(texts)[:, self.buckets]
        found: NDArray[np.float32] = normalize(_weigh(counts, self.idf) @ self.components.T)
        return found


def _count(texts: Sequence[str]) -> Any:
    """A sparse matrix float64[n, B]: how often each word or piece of one occurs."""
    hashing = HashingVectorizer(n_features=BUCKETS, analyzer=_pieces, alternate_sign=False, norm=None)
    return hashing.transform(texts)


def _pieces(text: str) -> Iterator[str]:
    """The words, each between blanks, and their parts of a few letters."""
    for found in _WORD.findall(text.lower()):
        word = f" {found} "
        yield word
        for size in PIECES:
            yield from (word[start : start + size] for start in range(len(word) - size + 1) if size < len(word))


def _weigh(counts: Any, idf: NDArray[np.float32]) -> Any:
    """Logarithms of counts, times how rare what is counted is; rows of length 1."""
    weighed = counts.astype(np.float32)
    weighed.data = (1 + np.log(weighed.data)) * idf[weighed.indices]
    return normalize(weighed)
