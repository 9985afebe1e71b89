from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from offline.data.dataset import Dataset, microseconds
from offline.data.timelines import Timelines, before, taken
from offline.evaluation import ranking
from offline.training.features import describe
from offline.training.loop import Training
from offline.training.search import Trained
from offline.training.validation import Validation
from offline.vectors import Vectors
from tests.offline.conftest import TRAIN


def test_validation_knows_users_of_both_periods_alone(data: Dataset) -> None:
    start = microseconds(data.split.validation_start)
    earlier = before(data.timelines, start)
    validation = Validation(data, earlier, describe(data, earlier, TRAIN), TRAIN)
    later = data.timelines.times >= start
    assert set(validation.users) == set(data.timelines.users[later]) & set(data.timelines.users[~later])
    assert taken(validation.later, validation.users, len(data.items)).sum() == len(
        {
            pair
            for pair in zip(data.timelines.users[later], data.timelines.items[later], strict=True)
            if pair[0] in set(validation.users)
        }
    )


def test_of_many_users_a_sample_is_asked_and_chunks_change_nothing(
    data: Dataset, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Done:
        def embed(self, timelines: Timelines, users: NDArray[np.int32]) -> Vectors:
            return trained.vectors._replace(users=trained.vectors.users[users])

    earlier = before(data.timelines, microseconds(data.split.validation_start))
    features = describe(data, earlier, TRAIN)
    every = Validation(data, earlier, features, TRAIN)
    expected = every.recalls(cast("Training", Done()))
    monkeypatch.setattr(ranking, "_USERS", 7)
    assert np.allclose(every.recalls(cast("Training", Done())), expected)
    monkeypatch.setattr("offline.training.validation._USERS", 10)
    some = Validation(data, earlier, features, TRAIN)
    assert len(some.users) == 10 < len(every.users)
    assert set(some.users) < set(every.users)
    relevant = taken(every.later, every.users, len(data.items))
    scores = np.einsum("uhd,jd->uhj", trained.vectors.users[every.users], trained.vectors.items).max(axis=1)
    hits = np.take_along_axis(relevant, np.argsort(-scores, axis=1)[:, : TRAIN.validation_cutoff], axis=1)
    assert expected.all == pytest.approx((hits.sum(axis=1) / relevant.sum(axis=1)).mean())
