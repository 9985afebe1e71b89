"""Slates for tests of the fold: up to five items over up to four of eight clusters, by number."""

from typing import Any

import numpy as np

from bandit.context import UNIT
from service import pseudonym
from service.pseudonym import NOBODY
from service.token import NO_EDGE, AttributionToken
from tests.service.fold.logs import partition
from tests.service.tokens import ISSUED_MS, PSEUDONYM_KEY, a_token

ITEMS = ("first", "second/part", "third ü 推薦", "fourth", "fifth")
LIFE_S = 200
USERS = (NOBODY, b"u" * 16, b"v" * 16)


def a_slate(number: int, issued_ms: int = ISSUED_MS, home: int | None = None, **changes: Any) -> AttributionToken:
    """One whose records belong to partition `home`, if that is named; another number, another slate."""
    seed = number
    while True:
        rng = np.random.default_rng(seed)
        request_id = rng.bytes(16)
        items, clusters = int(rng.integers(1, 6)), int(rng.integers(1, 5))
        cut = np.sort(rng.choice(np.arange(1, UNIT), clusters - 1, replace=False))
        slots = rng.integers(0, 20, size=(items, clusters))
        slots[rng.random(slots.shape) < 0.3] = NO_EDGE
        token = a_token(
            request_id=request_id,
            user=USERS[number % 3],
            issued_ms=issued_ms,
            life_s=LIFE_S,
            clusters=rng.choice(8, clusters, replace=False).astype(np.uint32),
            weights=np.diff(np.r_[0, cut, UNIT]).astype(np.int64),
            items=pseudonym.of_items(ITEMS[:items], PSEUDONYM_KEY),
            flags=np.zeros(items, dtype=np.uint8),
            slots=slots.astype(np.int32),
        )._replace(**changes)
        if home is None or partition(token) == home:
            return token
        seed += 1_000_000
