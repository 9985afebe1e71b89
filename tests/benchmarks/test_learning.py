from benchmarks import learning
from benchmarks.learning import AFTER, BEFORE, DATASET, RATES
from benchmarks.trials import Row
from loadtest.demo import TRAINING
from offline.config import load


def test_what_was_before_is_one_interest_of_plain_towers(tmp_path):  # type: ignore[no-untyped-def]
    found = {}
    for model, text in learning.CONFIGS.items():
        (tmp_path / "config.toml").write_text(text)
        found[model] = load(tmp_path / "config.toml", {}).train
    assert (found[BEFORE].tower, found[BEFORE].interests) == ("two_tower", 1)
    assert found[AFTER] == load(TRAINING, {}).train


def test_the_plot_shows_both_at_every_rate() -> None:
    rows = [Row(DATASET, model, metric, None, 0.1, 0.01, 3) for metric in RATES.values() for model in (BEFORE, AFTER)]
    rows.append(Row(DATASET, "after − before", "click rate difference", None, 0.01, 0.01, 3))
    (axes,) = learning.plot(rows).axes
    assert len([bar for bars in axes.containers[1::2] for bar in bars]) == 2 * len(RATES)
