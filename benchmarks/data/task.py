"""A retrieval task: interactions to learn from, and what users took next, to validate and to test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from offline.data.timelines import Timelines, sort
from offline.features.fields import Fields
from offline.training.features import Features


class Question(NamedTuple):
    """Pairs of a user and an item that the user took next.

    Attributes:
        history: what is known of the users when they are asked about.
        users, items: int32[P].
    """

    history: Timelines
    users: NDArray[np.int32]
    items: NDArray[np.int32]


class Task(NamedTuple):
    """What a model is to learn and to foresee.

    Attributes:
        learned: the interactions to learn from.
        num_items: J.
        features: of all items and users, as towers read them.
        validation, test: the questions.
        repeats: whether users take what they took before; else that is never recommended.
    """

    learned: Timelines
    num_items: int
    features: Features
    validation: Question
    test: Question
    repeats: bool


def leave_one_out(sequences: Sequence[NDArray[np.int32]], num_items: int, *, repeats: bool) -> Task:
    """Every user's last item is the test, the last but one the validation, what is before them is learned.

    In the test the validation's item is known of a user, but it was not learned from. There are no features.

    Args:
        sequences: U of them, items in the order they were taken, at least three each.
        num_items: J.
        repeats: see the class.
    """
    users = np.arange(len(sequences), dtype=np.int32)

    def question(back: int) -> Question:
        items = np.array([sequence[-back] for sequence in sequences], dtype=np.int32)
        return Question(_without_last(sequences, back), users, items)

    nothing = [Fields((), np.zeros((rows, 0), dtype=np.float32)) for rows in (num_items, len(sequences))]
    validation = question(2)
    return Task(validation.history, num_items, Features(*nothing), validation, question(1), repeats)


def _without_last(sequences: Sequence[NDArray[np.int32]], number: int) -> Timelines:
    """Timelines of all but the last items; each item has a moment of its own."""
    kept = [sequence[: len(sequence) - number] for sequence in sequences]
    sizes = [len(sequence) for sequence in kept]
    users = np.repeat(np.arange(len(kept), dtype=np.int32), sizes)
    times = np.concatenate([np.arange(size, dtype=np.int64) for size in sizes])
    return sort(users, np.concatenate(kept), times, len(kept))
