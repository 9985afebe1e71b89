"""Examples: visits with what was taken and what was not, drawn half like targets, half from what would be shown."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from offline.batches import Batches
from offline.config import Rank
from offline.data.timelines import PAD, Timelines


class Example(NamedTuple):
    """B visits, as item numbers.

    Attributes:
        users: int32[B].
        history: int32[B, N], the latest first, PAD past the end.
        targets: int32[B, T], of the items that were taken, PAD past the end.
        negatives: int32[B, M].
        log_expected: float32[B, M], the logarithm of how often a visit's negatives hold this item on average; infinite
            for one that was taken, which so does not count.
    """

    users: NDArray[np.int32]
    history: NDArray[np.int32]
    targets: NDArray[np.int32]
    negatives: NDArray[np.int32]
    log_expected: NDArray[np.float32]


class Examples:
    """All examples of an epoch, in an order that depends on the seed and the epoch alone.

    The service orders the candidates of the user's clusters, so these make half of the negatives; the clusters know
    what the user took later as well. So each negative is corrected by its chance to be drawn (as in
    `offline.loss`): whatever they are drawn from, the ranker learns p(item | user, history) over the whole catalogue.

    Args:
        timelines: the interactions to learn from.
        candidates: int32[U, K], each user's best candidates, at least one, PAD last.
        num_items: J.
        config: sizes.
    """

    def __init__(self, timelines: Timelines, candidates: NDArray[np.int32], num_items: int, config: Rank) -> None:
        self.batches = Batches(
            timelines,
            num_items,
            config.visits_per_batch,
            config.history_length,
            config.targets_per_visit,
            config.seed,
        )
        self.timelines, self.candidates, self.num_items, self.config = timelines, candidates, num_items, config
        self.found = (candidates != PAD).sum(axis=1)

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self.batches)

    def example(self, order: tuple[NDArray[np.int64], NDArray[np.int32]], epoch: int, number: int) -> Example:
        """The `number`-th batch of an epoch in the order that `batches.order` gives."""
        batch = self.batches.batch(order, number)
        items = np.append(batch.items, PAD)
        visits = order[0][number * self.batches.size : (number + 1) * self.batches.size]
        negatives = self._draw(batch.users, np.random.default_rng([self.config.seed, epoch, number]))
        log_expected = np.where(self._taken(visits, negatives), np.inf, np.log(self._expected(batch.users, negatives)))
        return Example(
            batch.users, items[batch.history], items[batch.targets], negatives, log_expected.astype(np.float32)
        )

    def _draw(self, users: NDArray[np.int32], generator: np.random.Generator) -> NDArray[np.int32]:
        half = self.config.negatives_per_visit // 2
        like_targets = generator.choice(self.num_items, size=(len(users), half), p=self.batches.frequencies)
        places = generator.integers(self.found[users][:, None], size=(len(users), half))
        shown = self.candidates[users[:, None], places]
        return np.concatenate([like_targets, shown], axis=1).astype(np.int32)

    def _expected(self, users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.float64]:
        half, found = self.config.negatives_per_visit // 2, self.found[users][:, None]
        is_candidate = (items[:, :, None] == self.candidates[users][:, None]).any(axis=2)
        expected: NDArray[np.float64] = half * (self.batches.frequencies[items] + is_candidate / found)
        return expected

    def _taken(self, visits: NDArray[np.int64], items: NDArray[np.int32]) -> NDArray[np.bool_]:
        """bool[B, M], which items the visits (int64[B]) took."""
        first, size = self.batches.visits.first[visits], self.batches.visits.size[visits]
        within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
        own = self.timelines.items[np.repeat(first, size) + within].astype(np.int64)
        rows = np.repeat(np.arange(len(visits)), size)
        return np.isin(np.arange(len(visits))[:, None] * self.num_items + items, rows * self.num_items + own)
