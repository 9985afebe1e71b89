"""Timelines: what each user did, in order, as flat arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PAD = -1
HEAD_SHARE = 0.2


class Timelines(NamedTuple):
    """All users' interactions, one user after another, each by time.

    Attributes:
        users: int32[N], rows of the users.
        items: int32[N], item numbers.
        times: int64[N], µs since 1970.
        starts: int64[U + 1], where each user's part starts and ends.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    times: NDArray[np.int64]
    starts: NDArray[np.int64]


class Visits(NamedTuple):
    """Visits: a user's interactions at one moment (a basket; a single item where every click has its own time).

    Attributes:
        users: int32[V].
        first, size: int64[V], the visit is `items[first : first + size]` of the timelines.
    """

    users: NDArray[np.int32]
    first: NDArray[np.int64]
    size: NDArray[np.int64]


def sort(users: NDArray[np.int32], items: NDArray[np.int32], times: NDArray[np.int64], num_users: int) -> Timelines:
    """Order interactions (three arrays of one length) by user, time and item."""
    order = np.lexsort((items, times, users))
    users = users[order]
    return Timelines(users, items[order], times[order], np.searchsorted(users, np.arange(num_users + 1)))


def before(timelines: Timelines, moment: int) -> Timelines:
    """The interactions before a moment (µs since 1970)."""
    kept = timelines.times < moment
    return sort(timelines.users[kept], timelines.items[kept], timelines.times[kept], len(timelines.starts) - 1)


def since(timelines: Timelines, moment: int) -> Timelines:
    """The interactions from a moment (µs since 1970) on."""
    kept = timelines.times >= moment
    return sort(timelines.users[kept], timelines.items[kept], timelines.times[kept], len(timelines.starts) - 1)


def taken(timelines: Timelines, users: NDArray[np.int32], num_items: int) -> NDArray[np.bool_]:
    """bool[n, J], what each of users int32[n] took; for few users at a time."""
    first, past = timelines.starts[users], timelines.starts[users.astype(np.int64) + 1]
    sizes = past - first
    rows = np.repeat(np.arange(len(users)), sizes)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    found = np.zeros((len(users), num_items), dtype=bool)
    found[rows, timelines.items[np.repeat(first, sizes) + within]] = True
    return found


def visits(timelines: Timelines) -> Visits:
    """Group each user's interactions by their time stamp."""
    new = np.ones(len(timelines.users), dtype=bool)
    new[1:] = (np.diff(timelines.users) != 0) | (np.diff(timelines.times) != 0)
    first = np.flatnonzero(new)
    return Visits(timelines.users[first], first, np.diff(np.append(first, len(new))))


def histories(
    timelines: Timelines, users: NDArray[np.int32], ends: NDArray[np.int64], length: int
) -> NDArray[np.int32]:
    """The `length` items before position `ends` of each user's part, the latest first.

    Args:
        users: int32[n].
        ends: int64[n], positions in the flat arrays, exclusive.

    Returns:
        int32[n, length], PAD where a user had done less.
    """
    positions = ends[:, None] - 1 - np.arange(length)
    there = positions >= timelines.starts[users][:, None]
    return np.where(there, timelines.items[np.maximum(positions, 0)], PAD).astype(np.int32)


def latest(timelines: Timelines, users: NDArray[np.int32], length: int) -> NDArray[np.int32]:
    """int32[n, length], the last items of users (int32[n]), the latest first."""
    return histories(timelines, users, timelines.starts[users.astype(np.int64) + 1], length)


def popularity(timelines: Timelines, num_items: int) -> NDArray[np.int64]:
    """int64[J], how often each item was taken."""
    return np.bincount(timelines.items, minlength=num_items)


def is_head(timelines: Timelines, num_items: int, share: float = HEAD_SHARE) -> NDArray[np.bool_]:
    """bool[J], the share of the items that was taken most, at least one; ties by number. The others are the tail."""
    head = np.zeros(num_items, dtype=bool)
    head[np.argsort(-popularity(timelines, num_items), kind="stable")[: max(1, round(share * num_items))]] = True
    return head
