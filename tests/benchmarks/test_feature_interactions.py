from pathlib import Path

import pytest

from benchmarks import feature_interactions
from benchmarks.click_models import MODELS
from benchmarks.click_training import Settings
from benchmarks.feature_interactions import ALONE, MUSTS, QUICK, UNIT, Plan
from benchmarks.trials import Row, Trials
from tests.benchmarks.clicks import agreeing


def test_every_model_that_is_named_exists() -> None:
    assert {*MUSTS, *QUICK, UNIT, feature_interactions.HIFORMER} <= MODELS.keys()


def test_a_trial_has_quality_and_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_interactions, "TURNS", 1)
    trials = Trials("feature_interactions", quick=True, root=tmp_path)
    plan = Plan("Frappe_x1", Settings(0.0, epochs=1, batch=64), {UNIT: 1}, tried=(1e-3,))
    feature_interactions.measure(trials, [(plan, agreeing())])
    found = {(row.dataset, row.metric): row.mean for row in feature_interactions.report(trials)}
    assert 0 <= found["Frappe_x1", "AUC"] <= 1
    assert found["Frappe_x1", "log-loss"] > 0
    assert found["Frappe_x1", "training seconds"] > 0
    assert 0 <= found["Frappe_x1, tuning", "validation AUC"] <= 1
    assert found["Frappe_x1, a request", "ms"] > 0
    assert found["Frappe_x1, a request", "ratio"] == 1


def test_a_model_is_trained_at_the_step_size_that_validates_best(tmp_path: Path) -> None:
    trials = Trials("feature_interactions", root=tmp_path)
    plan = Plan("Frappe_x1", Settings(0.0, epochs=1), {UNIT: 1}, tried=(1e-3, 4e-3))
    known = {"validation AUC/0.001": 0.6, "validation AUC/0.004": 0.7}
    trials.run("Frappe_x1, tuning", UNIT, feature_interactions.TUNING_SEED, lambda: known)
    assert feature_interactions.tuned(trials, plan, agreeing(), UNIT) == Settings(0.0, epochs=1, learning_rate=4e-3)
    assert feature_interactions.tuned(trials, plan._replace(tried=()), agreeing(), UNIT) == plan.settings


def test_the_report_says_how_far_hiformer_is_ahead_of_each_rival(tmp_path: Path) -> None:
    trials = Trials("feature_interactions", root=tmp_path)
    for model, auc in (("DCN-v2", 0.8), ("Hiformer, low rank", 0.9)):
        trials.run("MovieLens-1M", model, 0, lambda: {"AUC": auc})  # noqa: B023
    rows = feature_interactions.report(trials)
    assert [row.model for row in rows] == ["Hiformer, low rank", "DCN-v2", "Hiformer, low rank − DCN-v2"]
    assert rows[-1].mean == pytest.approx(0.1)


def test_the_plot_shows_every_model() -> None:
    rows = [
        row
        for model in MODELS
        for row in (
            Row("Frappe_x1", model, "AUC", None, 0.98, 0.001, 5),
            Row("Frappe_x1, a request", model, "ms", None, 1.0, 0.1, 3),
        )
    ]
    together, alone, costs = feature_interactions.plot(rows).axes
    shown = [label.get_text() for axes in (together, alone) for label in axes.get_yticklabels()]
    assert sorted(shown) == sorted(f"{model} (5)" for model in MODELS)
    assert {text.get_text() for text in costs.texts} == {model for model in MODELS if not model.endswith(ALONE)}


def test_published_figures_stand_beside_ours() -> None:
    assert "DCN-v2 0.9845" in feature_interactions.note()
