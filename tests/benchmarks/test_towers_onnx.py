import numpy as np
import pytest

from benchmarks import towers_onnx
from benchmarks.towers_onnx import HALVES, MODELS, UNSPLIT, Case, cases, plot, timed, trial
from benchmarks.trials import Row
from offline.config import Rank, Train
from offline.features.fields import Fields
from offline.training.features import Features

RNG = np.random.default_rng(0)
SIZES = {"heads": 2, "key_width": 4, "value_width": 4, "key_rank": 4, "value_rank": 4}
TOWERS = Train.model_validate(
    {"interests": 2, "dimension": 8, "history_length": 60, "feature_buckets": 32, "hiformer": SIZES}
)
RANK = Rank.model_validate({"width": 8, "hiformer": SIZES})


def some(rows: int, *words: int) -> Fields:
    bags = tuple(RNG.integers(32, size=(rows, size), dtype=np.int32) for size in words)
    return Fields(bags, RNG.normal(size=(rows, 1)).astype(np.float32))


@pytest.fixture(scope="module")
def made() -> dict[str, Case]:
    return cases(Features(some(20, 2, 3), some(5, 2)), TOWERS, RANK, 0)


def test_every_network_says_what_jax_says(made: dict[str, Case]) -> None:
    assert set(made) == set(MODELS)
    assert all(0 < case.difference < 1e-5 for case in made.values())


def test_the_halves_and_the_whole_say_the_same_of_a_request(made: dict[str, Case]) -> None:
    (halves,), (whole,) = made[HALVES].call(), made[UNSPLIT].call()
    assert halves.shape == (towers_onnx.CANDIDATES,)
    assert np.abs(halves - whole).max() < 1e-5
    assert np.std(whole) > 0.1


def test_a_trial_times_as_many_calls_as_asked(made: dict[str, Case]) -> None:
    calls: list[int] = []
    assert timed(lambda: calls.append(1), 3, 7).shape == (7,)
    assert len(calls) == 10
    found = trial(Case(lambda: None, 2e-6), quick=True)
    assert found["difference ppm"] == pytest.approx(2)
    assert found["p50 ms"] <= found["p99 ms"]


def test_the_plot_has_a_bar_a_network() -> None:
    rows = [Row("set", model, f"p{p} ms", None, 1.0 + p, 0.1, 3) for model in MODELS for p in (50, 99)]
    (panel,) = plot(rows).axes
    assert [label.get_text() for label in panel.get_yticklabels()] == list(MODELS)
