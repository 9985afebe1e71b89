"""The simulator's truth: who visits, and with what probability each visitor clicks each item.

Simulated users browse slates served over HTTP; this module alone decides what they click. It was fixed
before any policy was tuned, and shares no code, parameters or purchases with the trainer: what a policy knows
of these users beforehand comes from earlier purchases alone, the rest it must learn from clicks.

Fitted on: purchases at or after `test_start` only (the trainer sees only earlier ones). Its users are that
period's customers, including those the trainer never met. Its items are the whole catalogue.

The formula, for user u and item i:

    X[u, i]        TF-IDF of the number of u's baskets that hold i (logarithmic counts, unit rows)
    taste[u, i]    (W·H)[u, i], the non-negative factorisation X ≈ W·H of rank 20, as a share of its row
    popularity[i]  the share of i in all distinct (user, item) pairs
    affinity       0.7 · taste + 0.3 · popularity
    probability    clip(scale · affinity, 0.001, 0.6)

One number is calibrated, `scale`: the ten best items of each visitor, averaged over visits, are clicked at
0.25 per impression. Items that nobody bought in the period keep the floor of 0.001. Visits are drawn in
proportion to each user's number of baskets, whose tail is heavy. On Online Retail from 2011-10-01 (2,478
users, 3,145 items) a random item is then clicked at 0.011, and the best fixed slate of ten at 0.098. Rank and
blend were chosen by these rates alone.

Left out, on purpose: position bias and attention (every item of a slate is looked at), the other items of
the slate (clicks are independent), fatigue and novelty (a repeated item is as attractive as at first), and
drift (probabilities never change during a run). Rates measured here compare policies; they do not forecast a
shop's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.sparse import csr_array
from sklearn.decomposition import NMF
from sklearn.feature_extraction.text import TfidfTransformer

COLUMNS = ("user_id", "item_id", "timestamp")
RANK = 20
POPULARITY_WEIGHT = 0.3
FLOOR, CEILING = 0.001, 0.6
ORACLE_SLATE, ORACLE_RATE = 10, 0.25


@dataclass(frozen=True, eq=False)
class World:
    """Users, items, and the true click probability of every pair; constant during a run.

    Attributes:
        users: user ids, sorted, length U.
        items: item ids in the order of the catalogue, length I.
        visit_rate: float64[U], the share of all visits that each user makes; sums to 1.
        click_probability: float32[U, I], clicks per impression, within [0.001, 0.6].
    """

    users: tuple[str, ...]
    items: tuple[str, ...]
    visit_rate: NDArray[np.float64]
    click_probability: NDArray[np.float32]

    def __post_init__(self) -> None:
        # A truth that a caller could write to would not be one.
        self.visit_rate.setflags(write=False)
        self.click_probability.setflags(write=False)

    @classmethod
    def fit(cls, events: pa.Table, test_start: datetime, seed: int, items: Sequence[str]) -> Self:
        """Fit the truth on the purchases at or after `test_start`; earlier ones are dropped unseen.

        Args:
            events: purchases, one row each, in any order: user_id (string), item_id (string) and timestamp
                (any unit; UTC if it names no zone). Other columns, rows with a null and items outside the
                catalogue are ignored. The rows of one user at one time stamp are one basket.
            test_start: start of the test period, inclusive; UTC if it names no zone.
            seed: seeds the start of the factorisation. The same seed gives the same world; another seed may
                find other factors, and so a world with alike rates but not all the same tastes.
            items: the catalogue, distinct item ids.

        Raises:
            ValueError: a column is missing, the catalogue repeats an id, no purchase is late enough, or too
                few items were bought to fill an oracle slate.
        """
        index = {item: column for column, item in enumerate(items)}
        if len(index) != len(items):
            raise ValueError(f"the catalogue repeats {len(items) - len(index)} item ids; pass each one once")
        purchases = _test_purchases(events, test_start)
        in_catalogue = pc.is_in(purchases["item_id"], value_set=pa.array(list(items), pa.string()))
        purchases = purchases.filter(in_catalogue)
        bought = np.array(sorted(index[item] for item in set(purchases["item_id"].to_pylist())), dtype=np.int64)
        if len(bought) < ORACLE_SLATE:
            raise ValueError(
                f"{len(bought)} items of the catalogue were bought at or after {test_start}, at least "
                f"{ORACLE_SLATE} are needed; pass the catalogue that the events use, or an earlier test_start"
            )

        users = tuple(sorted(set(purchases["user_id"].to_pylist())))
        row_of = {user: row for row, user in enumerate(users)}
        rows = np.array([row_of[user] for user in purchases["user_id"].to_pylist()])
        columns = np.searchsorted(bought, [index[item] for item in purchases["item_id"].to_pylist()])
        # The constructor adds up repeated pairs: one for each basket that holds the item.
        counts = csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(users), len(bought)))
        baskets = purchases.group_by(["user_id", "timestamp"]).aggregate([])["user_id"].to_pylist()
        visits = np.bincount([row_of[user] for user in baskets], minlength=len(users))
        visit_rate = visits / visits.sum()

        probability = np.full((len(users), len(items)), FLOOR, dtype=np.float32)
        probability[:, bought] = _calibrated(_affinity(counts, seed), visit_rate)
        return cls(users, tuple(items), visit_rate, probability)

    @cached_property
    def item_index(self) -> dict[str, int]:
        """Column of each item id in `click_probability`."""
        return {item: column for column, item in enumerate(self.items)}

    def visitor(self, rng: np.random.Generator) -> int:
        """Row of the user who makes the next visit, drawn by `visit_rate`."""
        return int(rng.choice(len(self.users), p=self.visit_rate))

    def clicks(self, user: int, items: Sequence[str], rng: np.random.Generator) -> NDArray[np.bool_]:
        """bool[n]: which of the n items shown to the user (a row) are clicked, drawn independently.

        Item ids that the world does not know are clicked at the floor probability.
        """
        row = self.click_probability[self._row(user)]
        known = [self.item_index.get(item) for item in items]
        probability = np.array([FLOOR if column is None else row[column] for column in known], dtype=np.float64)
        return rng.random(len(probability)) < probability

    def oracle_slate(self, user: int, limit: int) -> NDArray[np.int64]:
        """int64[limit]: columns of the user's (a row's) best items, best first, ties in catalogue order.

        Raises:
            ValueError: the limit is not within 1 and the size of the catalogue.
        """
        if not 1 <= limit <= len(self.items):
            raise ValueError(f"limit is {limit}; it must be within 1 and {len(self.items)}, the catalogue's size")
        return np.argsort(-self.click_probability[self._row(user)], kind="stable")[:limit].astype(np.int64)

    def oracle_click(self, user: int, limit: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        """bool[limit]: the clicks that the oracle's slate draws from the user (a row), in slate order."""
        probability = self.click_probability[user, self.oracle_slate(user, limit)]
        return np.asarray(rng.random(limit) < probability)

    def _row(self, user: int) -> int:
        if not 0 <= user < len(self.users):  # numpy would take -1 for the last user
            raise ValueError(f"user is {user}; it must be a row within 0 and {len(self.users) - 1}")
        return user


def _test_purchases(events: pa.Table, test_start: datetime) -> pa.Table:
    """Distinct (user_id, item_id, timestamp) rows at or after the start of the test period."""
    if missing := [name for name in COLUMNS if name not in events.column_names]:
        raise ValueError(f"events lack the columns {missing}; they have {events.column_names}")
    start = test_start.replace(tzinfo=UTC) if test_start.tzinfo is None else test_start
    schema = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.timestamp("us", "UTC"))])
    purchases = events.select(list(COLUMNS)).cast(schema, safe=False).drop_null()
    late = purchases.filter(pc.field("timestamp") >= pa.scalar(start, pa.timestamp("us", "UTC")))
    if not late.num_rows:
        if not purchases.num_rows:
            raise ValueError("events hold no purchases; pass the whole log, the test period included")
        latest = pc.max(purchases["timestamp"]).as_py()
        raise ValueError(
            f"no purchases at or after {start}; the latest is at {latest}: pass a test_start no later than that"
        )
    return late.group_by(list(COLUMNS)).aggregate([])


def _affinity(counts: csr_array, seed: int) -> NDArray[np.float64]:
    """float64[U, B]: taste blended with popularity, rows summing to 1, from basket counts [U, B]."""
    popularity = np.bincount(counts.indices, minlength=counts.shape[1]) / counts.nnz
    matrix = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
    factors = NMF(min(RANK, *counts.shape), init="nndsvda", random_state=seed, max_iter=2000, tol=1e-4)
    taste = factors.fit_transform(matrix) @ factors.components_
    total = taste.sum(axis=1, keepdims=True)
    # A user whom no factor explains has no taste of their own: popularity stands in.
    taste = np.where(total > 0, taste / np.where(total > 0, total, 1), popularity)
    return np.asarray((1 - POPULARITY_WEIGHT) * taste + POPULARITY_WEIGHT * popularity)


def _calibrated(affinity: NDArray[np.float64], visit_rate: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64[U, B]: click probabilities, scaled so that oracle slates are clicked at `ORACLE_RATE`."""
    best = np.partition(affinity, -ORACLE_SLATE, axis=1)[:, -ORACLE_SLATE:]

    def excess(scale: float) -> float:
        return float(visit_rate @ np.clip(scale * best, FLOOR, CEILING).mean(axis=1)) - ORACLE_RATE

    # At 0 every item is at the floor, at the other end all ten are at the ceiling; between, it only grows.
    scale: float = brentq(excess, 0.0, CEILING / best.min())
    return np.asarray(np.clip(scale * affinity, FLOOR, CEILING))
