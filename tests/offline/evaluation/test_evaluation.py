from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bandit.bundle import Bundle
from offline.config import Evaluate
from offline.data import dataset
from offline.data.dataset import Dataset
from offline.data.timelines import Timelines, sort
from offline.evaluation import evaluation
from offline.training.search import Trained

CONFIG = Evaluate(cutoffs=(2, 5), head_share=0.2)


@pytest.fixture
def test_period(prepared: Path, data: Dataset) -> Timelines:
    return dataset.test_period(prepared, data)


def test_a_ranker_that_knows_the_answer_is_perfect(data: Dataset, test_period: Timelines, draft: Bundle) -> None:
    def oracle(users: NDArray[np.int32]) -> NDArray[np.float32]:
        taken = np.zeros((len(data.users), len(data.items)), dtype=np.float32)
        taken[test_period.users, test_period.items] = 1
        return taken[users]

    def contrary(users: NDArray[np.int32]) -> NDArray[np.float32]:
        return -oracle(users)

    found = evaluation.evaluate(data, test_period, draft, {"oracle": oracle, "contrary": contrary}, CONFIG)
    assert found["users"] == len(np.unique(test_period.users))
    assert found["interactions"] == len(test_period.users)
    for task in evaluation.TASKS:
        assert found["tasks"][task]["oracle"]["ndcg"]["5"] == pytest.approx(1)
        assert found["tasks"][task]["contrary"]["recall"]["5"] < 0.2
        assert 0 < found["tasks"][task]["oracle"]["recall"]["2"] <= found["tasks"][task]["oracle"]["recall"]["5"] <= 1


def test_what_is_new_is_neither_had_nor_recommended_again(data: Dataset, draft: Bundle) -> None:
    # One user takes one item they had and one they had not; a ranker that likes the old one more is right all the same.
    user = 0
    had = np.unique(data.timelines.items[data.timelines.users == user])
    old, new = int(had[0]), int(np.setdiff1d(np.arange(len(data.items)), had)[0])
    pair = np.array([old, new], dtype=np.int32)
    test = sort(np.array([user, user], np.int32), pair, np.array([1, 2]), len(data.users))

    def ranker(users: NDArray[np.int32]) -> NDArray[np.float32]:
        scores = np.zeros((len(users), len(data.items)), dtype=np.float32)
        scores[:, old], scores[:, new] = 2, 1
        return scores

    found = evaluation.evaluate(data, test, draft, {"it": ranker}, Evaluate(cutoffs=(1,)))
    assert found["tasks"]["all"]["it"]["recall"]["1"] == 0.5
    assert found["tasks"]["new"]["it"]["recall"]["1"] == 1.0


def test_head_tail_and_coverage(data: Dataset, test_period: Timelines, draft: Bundle) -> None:
    rankers = {"popularity": evaluation.rankers(data, np.empty(0), draft)["popularity"]}  # type: ignore[arg-type]
    found = evaluation.evaluate(data, test_period, draft, rankers, Evaluate(cutoffs=(6,), head_share=0.2))
    measures = found["tasks"]["all"]["popularity"]
    assert found["head_items"] == 6
    assert measures["recall_head"]["6"] == 1.0  # the six most popular items are the head
    assert measures["recall_tail"]["6"] == 0.0
    assert measures["coverage"]["6"] == pytest.approx(6 / len(data.items))
    assert 0 < measures["recall_ci95"]["6"] < 0.2


def test_the_towers_beat_popularity_and_candidates_hold_most(
    data: Dataset, test_period: Timelines, trained: Trained, draft: Bundle
) -> None:
    found = evaluation.evaluate(data, test_period, draft, evaluation.rankers(data, trained.vectors, draft), CONFIG)
    recalls = {name: measures["recall"]["5"] for name, measures in found["tasks"]["all"].items()}
    assert recalls["towers"] > 1.5 * recalls["popularity"]
    assert recalls["sparse graph"] > 1.5 * recalls["popularity"]
    assert found["candidates"]["recall"] > found["candidates"]["mean_size"] / len(data.items)


def test_an_empty_test_period_measures_nothing(data: Dataset, draft: Bundle) -> None:
    nobody = sort(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int64), len(data.users))
    ranker = evaluation.rankers(data, np.empty(0), draft)["popularity"]  # type: ignore[arg-type]
    found = evaluation.evaluate(data, nobody, draft, {"popularity": ranker}, CONFIG)
    assert found["candidates"] == {"recall": None, "mean_size": None}
    assert found["tasks"]["all"]["popularity"]["coverage"] == {"2": 0.0, "5": 0.0}
    assert "recall" not in found["tasks"]["all"]["popularity"]
