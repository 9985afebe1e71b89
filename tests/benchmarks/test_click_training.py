import jax
import numpy as np
import pytest
from flax import nnx
from sklearn.metrics import roc_auc_score

from benchmarks import click_models, click_training
from benchmarks.click_training import Settings
from offline.towers.projection import PerToken
from tests.benchmarks.clicks import agreeing

CLICKS = agreeing()


@pytest.fixture(scope="module")
def fitted() -> click_training.Fitted:
    model = click_models.make(CLICKS, "Transformer, 1 layer, alone", seed=0)
    return click_training.fit(model, CLICKS, Settings(0.0, epochs=30, batch=64, learning_rate=2e-2, even=True), seed=0)


def test_learns_what_no_field_tells_alone(fitted: click_training.Fitted) -> None:
    assert click_training.quality(fitted.model, CLICKS.test)["AUC"] > 0.95
    assert fitted.seconds > 0


def test_keeps_the_best_epoch_and_stops_two_after_it(fitted: click_training.Fitted) -> None:
    found = click_training.predict(fitted.model, CLICKS.validation)
    assert found.min() >= 0
    assert found.max() <= 1
    best = int(np.argmax(fitted.validation))
    assert roc_auc_score(CLICKS.validation.labels, found) == pytest.approx(fitted.validation[best], abs=1e-6)
    assert len(fitted.validation) == min(30, best + 1 + click_training.PATIENCE)


def test_a_penalty_makes_embeddings_small() -> None:
    model = click_models.make(CLICKS, "Transformer, 1 layer, alone", seed=0)
    before = np.abs(np.asarray(model.embeddings.table[...])).mean()
    click_training.fit(model, CLICKS, Settings(100.0, epochs=2, batch=64, learning_rate=2e-3), seed=0)
    assert np.abs(np.asarray(model.embeddings.table[...])).mean() < 0.6 * before


def test_scaled_matrices_are_moved_as_far_as_others() -> None:
    class Both(nnx.Module):
        def __init__(self) -> None:
            self.scaled, self.plain = PerToken(1, 25, 2, nnx.Rngs(0)), nnx.Linear(25, 2, rngs=nnx.Rngs(0))

    model = Both()
    parameters = nnx.state(model, nnx.Param)
    optimiser = click_training.adam(model, 1e-3, steps=10, even=True)
    gradient = jax.tree.map(np.ones_like, parameters)
    moved, _ = optimiser.update(gradient, optimiser.init(parameters))
    assert np.allclose(moved["scaled"]["kernel"][...] / np.sqrt(25), moved["plain"]["kernel"][...])
    assert np.allclose(moved["scaled"]["bias"][...], moved["plain"]["bias"][...])
