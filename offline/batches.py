"""Batches of training examples: visits with the history before them and some of their items as targets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from offline.data.timelines import PAD, Timelines, Visits, histories, visits

UNKNOWN = 0
"""The id of items without training interactions; item j with some has id j + 1."""

_SIZES, _LEAST, _SHARES = 8, 64, 8
"""A batch's lists are of one of so many lengths, multiples of at least that, so that little is compiled anew; and they
can be cut into so many equal shares."""


class Batch(NamedTuple):
    """B visits. Histories and targets point into the batch's own list of S items, so each is embedded once.

    The first N items are the targets', which alone are scored; those that only histories hold come after.

    Attributes:
        items: int32[S], item numbers, PAD past the end of the N and past the end.
        ids: int32[S], the item tower's ids.
        log_q: float32[N], log of the share of targets that are this item.
        weights: float32[N], what a target counts in the loss that is this item.
        history: int32[B, L], places in `items`, the latest first, PAD past the end.
        targets: int32[B, T], places in the first N, PAD past the end.
        users: int32[B].
    """

    items: NDArray[np.int32]
    ids: NDArray[np.int32]
    log_q: NDArray[np.float32]
    weights: NDArray[np.float32]
    history: NDArray[np.int32]
    targets: NDArray[np.int32]
    users: NDArray[np.int32]


class Batches:
    """All batches of an epoch, in an order that depends on the seed and the epoch alone.

    Args:
        timelines: the interactions to learn from.
        num_items: J.
        size: B, visits a batch; fewer if there are not as many.
        history_length, targets: L and T, per visit.
        seed: of the shuffles.

    Attributes:
        frequencies: float64[J], each item's share of the targets; sums to 1.
        weights: float32[J], what a target counts in the loss; 1 each until they are set. They leave the loss's size
            alone where their mean over targets, frequencies · weights, is 1.
    """

    def __init__(
        self, timelines: Timelines, num_items: int, size: int, history_length: int, targets: int, seed: int
    ) -> None:
        self.timelines = timelines
        self.visits: Visits = visits(timelines)
        self.size = min(size, len(self.visits.first))
        self.history_length = history_length
        self.targets = min(targets, int(self.visits.size.max()))
        self.seed = seed
        self.most_targets = min(num_items, self.size * self.targets)
        self.most_others = min(num_items, self.size * history_length)
        self.ids = item_ids(timelines, num_items)
        # A visit gives at most T targets, so an item's chance to be one is T / size in large visits.
        chance = np.minimum(self.targets / self.visits.size, 1.0)
        drawn = np.bincount(timelines.items, weights=np.repeat(chance, self.visits.size), minlength=num_items)
        self.frequencies: NDArray[np.float64] = drawn / drawn.sum()
        self.log_q = np.log(np.maximum(self.frequencies, 1e-12)).astype(np.float32)
        self.weights = np.ones(num_items, dtype=np.float32)
        self._place = np.full(num_items + 1, PAD, dtype=np.int32)  # the last entry is PAD's own

    def __len__(self) -> int:
        """Batches an epoch; the visits that do not fill the last one wait for another epoch's order."""
        return len(self.visits.first) // self.size

    def order(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """An epoch's order of visits int64[V], and the items int32[N] shuffled inside each visit."""
        generator = np.random.default_rng([self.seed, epoch])
        owner = np.repeat(np.arange(len(self.visits.size)), self.visits.size)
        within = np.lexsort((generator.random(len(owner)), owner))
        return generator.permutation(len(self.visits.first)), self.timelines.items[within]

    def batch(self, order: tuple[NDArray[np.int64], NDArray[np.int32]], number: int) -> Batch:
        """The `number`-th batch of an epoch's order."""
        permutation, shuffled = order
        chosen = permutation[number * self.size : (number + 1) * self.size]
        first, size, users = self.visits.first[chosen], self.visits.size[chosen], self.visits.users[chosen]
        history = histories(self.timelines, users, first, self.history_length)
        places = np.arange(self.targets)
        positions = np.minimum(first[:, None] + places, len(shuffled) - 1)
        targets = np.where(places < size[:, None], shuffled[positions], PAD).astype(np.int32)
        return self._embedded_once(history, targets, users)

    def _embedded_once(self, history: NDArray[np.int32], targets: NDArray[np.int32], users: NDArray[np.int32]) -> Batch:
        wanted = np.unique(targets[targets != PAD])
        others = np.setdiff1d(history[history != PAD], wanted)
        first = _padded(wanted, self.most_targets)
        items = np.concatenate([first, _padded(others, self.most_others)])
        # Entries that another batch has left are not read, so that this costs the same for any number of items.
        self._place[wanted] = np.arange(len(wanted))
        self._place[others] = len(first) + np.arange(len(others))
        log_q, weights = self.log_q[first], self.weights[first]
        return Batch(items, self.ids[items], log_q, weights, self._place[history], self._place[targets], users)


def _padded(items: NDArray[np.int32], most: int) -> NDArray[np.int32]:
    step = max(-(-most // _SIZES), min(most, _LEAST))
    step += -step % _SHARES
    padded = np.full(max(1, -(-len(items) // step)) * step, PAD, dtype=np.int32)
    padded[: len(items)] = items
    return padded


def item_ids(timelines: Timelines, num_items: int) -> NDArray[np.int32]:
    """int32[J], the item tower's id of each item: UNKNOWN without interactions, else its number + 1."""
    seen = np.bincount(timelines.items, minlength=num_items) > 0
    return np.where(seen, np.arange(1, num_items + 1), UNKNOWN).astype(np.int32)
