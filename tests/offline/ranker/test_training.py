from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from rich.progress import Progress

from bandit.bundle import Bundle
from offline.data import timelines as tl
from offline.data.dataset import Dataset
from offline.data.timelines import PAD
from offline.export import features
from offline.ranker import known as reading
from offline.ranker import reranking, training
from offline.ranker.known import Known
from offline.training.features import describe
from offline.training.search import Trained
from tests.offline.conftest import INTERESTS, RANK, TASTES


@pytest.fixture(scope="module")
def known(data: Dataset, trained: Trained) -> Known:
    described = describe(data, data.timelines, INTERESTS)
    return reading.read(features.pack(features.arrays(data, described, trained.vectors.items, 12)))


def test_learns_the_tastes_and_gives_the_same_again(data: Dataset, known: Known, draft: Bundle, tmp_path: Path) -> None:
    candidates = reranking.best(draft, RANK.candidates)
    assert (candidates != PAD).any(axis=1).all()
    users = np.arange(len(data.users), dtype=np.int32)
    said = []
    for folder in ("one", "other"):
        with Progress(disable=True) as progress:
            found = training.train(data, known, candidates, 64, RANK, tmp_path / folder, progress)
        histories = tl.latest(data.timelines, users, RANK.history_length)
        said.append(reranking.logits(found.model, known, users, histories, candidates))
        assert found.epochs == int(np.argmax(found.validation_ndcg))
        assert found.epochs >= 1
    assert np.array_equal(said[0], said[1])
    best = np.take_along_axis(candidates, np.argmax(said[0], axis=1)[:, None], axis=1)[:, 0]
    tastes = np.array([int(user[1:]) for user in data.users["user_id"].to_pylist()]) % TASTES
    assert (best % TASTES == tastes).mean() > 0.8
    assert (said[0][candidates == PAD] == -np.inf).all()


def test_the_sampled_softmax_counts_each_negative_for_as_many_as_it_stands_for() -> None:
    logits = jnp.array([[1.0, 2.0, 0.5, -1.0, 3.0]])
    there, log_expected = jnp.array([[True, False]]), jnp.log(jnp.array([[2.0, 0.5, jnp.inf]]))
    found = training.sampled_softmax(logits, there, log_expected)
    rest = np.exp(0.5) / 2 + np.exp(-1.0) / 0.5
    assert float(found) == pytest.approx(-np.log(np.e / (np.e + rest)), abs=1e-5)
