"""Tokens for tests: one that is easy to calculate with, and any that a server could sign."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from bandit.context import UNIT
from service import pseudonym
from service.token import HAS_PROPENSITY, NO_EDGE, AttributionToken, OpenToken, encode, open_token

KEYS = {1: b"the first key", 7: b"another key"}
PSEUDONYM_KEY = b"pseudonyms"
EPOCH = bytes(range(16))
REQUEST = bytes(range(16, 32))
USER = bytes(range(32, 48))
ISSUED_MS = 1_800_000_000_000
LIFE_S = 3600
VERSION = "20260101T000000Z"
ITEMS = ("first", "second/part", "third ü 推薦")


def a_token(**changes: Any) -> AttributionToken:
    """A slate of three items over clusters 4, 1 and 6; the second item lacks an edge to cluster 1."""
    token = AttributionToken(
        epoch=EPOCH,
        request_id=REQUEST,
        user=USER,
        issued_ms=ISSUED_MS,
        life_s=LIFE_S,
        randomised_over=0,
        arm="default",
        namespace="default",
        version=VERSION,
        clusters=np.array([4, 1, 6], dtype=np.uint32),
        weights=np.array([16384, 12288, 4096], dtype=np.int64),
        items=pseudonym.of_items(ITEMS, PSEUDONYM_KEY),
        flags=np.zeros(3, dtype=np.uint8),
        slots=np.array([[0, 5, 2], [1, NO_EDGE, 3], [7, 6, 0]], dtype=np.int32),
    )
    return token._replace(**changes)


def opened(token: AttributionToken) -> OpenToken:
    """A token as the fold gets it."""
    return open_token(encode(token, 1, KEYS[1]), KEYS)


def _names(pattern: str) -> st.SearchStrategy[str]:
    return st.from_regex(pattern, fullmatch=True) | st.text(
        st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60
    )


@st.composite
def tokens(draw: st.DrawFn) -> AttributionToken:
    """1–200 items over 1–32 clusters, edges there or not, slots of every width, names of every script."""
    n, k = draw(st.integers(1, 200)), draw(st.integers(1, 32))
    highest = draw(st.sampled_from([(1 << 8) - 1, 1 << 8, (1 << 16) - 1, 1 << 16, (1 << 31) - 1]))
    seed = draw(st.integers(0, 2**32 - 1))
    share = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    rng = np.random.default_rng(seed)
    slots = rng.integers(0, highest, size=(n, k), endpoint=True)
    slots[rng.random((n, k)) >= share] = NO_EDGE
    if share:
        slots[rng.integers(n), rng.integers(k)] = highest
    sixteen = st.binary(min_size=16, max_size=16)
    weights: NDArray[np.int64] = draw(arrays(np.int64, k, elements=st.integers(1, UNIT)))
    return AttributionToken(
        epoch=draw(sixteen),
        request_id=draw(sixteen),
        user=draw(sixteen),
        issued_ms=draw(st.integers(0, 2**63)),
        life_s=draw(st.integers(0, 2**32 - 1)),
        randomised_over=draw(st.integers(0, 2**32 - 1)),
        arm=draw(_names("[A-Za-z0-9_-]{1,64}")),
        namespace=draw(_names("[A-Za-z0-9_-]{1,64}")),
        version=draw(_names("[A-Za-z0-9][A-Za-z0-9._-]{0,63}")),
        clusters=rng.integers(0, 2**32, size=k, dtype=np.uint32),
        weights=weights,
        items=rng.integers(0, 2**32, size=n, dtype=np.uint32),
        flags=rng.choice([0, HAS_PROPENSITY], size=n).astype(np.uint8),
        slots=slots.astype(np.int32),
    )
