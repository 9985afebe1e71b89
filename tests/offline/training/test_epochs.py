from pathlib import Path

import jax.numpy as jnp
import pytest
from flax import nnx
from rich.progress import Progress

from offline.training import epochs
from offline.training.epochs import Plan, best_epochs


@pytest.fixture
def counter() -> nnx.Param[object]:
    return nnx.Param(jnp.zeros(()))


def test_goes_on_where_it_was_interrupted(counter: nnx.Param[object], tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []

    def step(epoch: int, number: int) -> None:
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append((epoch, number))
        counter[...] = counter[...] + 1

    plan, module = Plan(epochs=3, per_epoch=3, patience=1, checkpoint_steps=2), (nnx.List([counter]),)
    with Progress(disable=True) as progress:
        with pytest.raises(KeyboardInterrupt):
            epochs.run(plan, tmp_path, module, step, progress, "")
        del done[:]
        counter[...] = jnp.float32(-100)
        epochs.run(plan, tmp_path, module, step, progress, "")
    assert done == [(1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]  # the last checkpoint was after four steps
    assert float(counter[...]) == 9


@pytest.mark.parametrize(("anew", "kept"), [(False, 0), (True, 1)])
def test_what_is_new_is_worth_nothing_before_it_was_trained(
    anew: bool, kept: int, counter: nnx.Param[object], tmp_path: Path
) -> None:
    def step(epoch: int, number: int) -> None:
        counter[...] = counter[...] + 1

    said = iter([0.4, 0.3] if anew else [0.5, 0.4, 0.3])
    plan = Plan(epochs=5, per_epoch=1, patience=1, checkpoint_steps=10, anew=anew)
    with Progress(disable=True) as progress:
        gone, record = epochs.run(plan, tmp_path, (nnx.List([counter]),), step, progress, "", lambda: next(said))
    assert (gone, best_epochs(record)) == (kept + 1, kept)
    assert float(counter[...]) == kept
