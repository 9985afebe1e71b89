from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from bandit.bundle import BundleError
from bandit.models import RANKER_ITEM
from service import ranker as rankers
from service.ranker import Ranker
from service.settings import Settings
from tests.bundles import small_bundle
from tests.service.rankers import foreseen, ranked_bundle

CANDIDATES = np.array([3, 59, 0, 7], dtype=np.int32)
NONE = np.zeros(0, dtype=np.int32)


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    return Ranker(ranked_bundle())


@pytest.mark.parametrize(
    ("user", "recent", "history"),
    [(0, [], [7]), (0, [5, 9], [5, 9, 7]), (3, [5], [5]), (None, [5], [5]), (3, [], []), (None, [], [])],
)
def test_the_history_is_what_was_answered_lately_and_then_what_the_bundle_knows(
    ranker: Ranker, user: int | None, recent: list[int], history: list[int]
) -> None:
    found = ranker.logits(user, np.array(recent, dtype=np.int32), CANDIDATES)
    assert found.dtype == np.float32
    assert found == pytest.approx(foreseen(user or 0, history)[CANDIDATES], abs=1e-4)


def test_no_more_history_than_the_ranker_was_trained_with(ranker: Ranker) -> None:
    recent = np.array([1, 2, 3, 4, 5], dtype=np.int32)
    assert ranker.logits(0, recent, CANDIDATES) == pytest.approx(foreseen(0, [1, 2, 3, 4])[CANDIDATES], abs=1e-4)


def test_a_bundle_without_a_ranker_is_served_without_and_says_so(settings: Callable[..., Settings]) -> None:
    on, off = settings(ranker="on"), settings()
    assert rankers.of(off, ranked_bundle()) == (None, None)
    assert list(rankers.files(off)) == []
    assert isinstance(rankers.of(on, ranked_bundle())[0], Ranker)
    found, why = rankers.of(on, small_bundle())
    assert found is None
    assert why is not None
    assert "python -m offline run --ranker" in why


def test_a_ranker_that_cannot_be_read_is_named() -> None:
    bundle = ranked_bundle()
    with pytest.raises(BundleError, match="the ranker cannot be read"):
        Ranker(replace(bundle, models={**bundle.models, RANKER_ITEM: b"no network"}))
