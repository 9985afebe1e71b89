import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from offline.towers.projection import Composite, PerToken
from tests.offline.towers import reference
from tests.offline.towers.models import filled, normal, run

TOKENS = normal(3, 4, 5)


def test_each_token_has_a_matrix_of_its_own() -> None:
    found = filled(lambda: PerToken(4, 5, 6, nnx.Rngs(0)))
    assert np.allclose(run(found, TOKENS), [reference.per_token(found, row) for row in np.asarray(TOKENS)], atol=1e-5)
    moved = TOKENS.at[:, 2].add(1)
    assert (run(found, moved) != run(found, TOKENS)).any(axis=(0, 2)).tolist() == [False, False, True, False]


@pytest.mark.parametrize("rank", [None, 3])
def test_each_result_is_made_of_all_tokens(rank: int | None) -> None:
    found = filled(lambda: Composite(4, 5, 6, rank, nnx.Rngs(0)))
    assert np.allclose(run(found, TOKENS), [reference.composite(found, row) for row in np.asarray(TOKENS)], atol=1e-5)
    moved = TOKENS.at[:, 2].add(1)
    assert (run(found, moved) != run(found, TOKENS)).any(axis=(0, 2)).all()


def test_a_low_rank_is_a_low_rank() -> None:
    found = filled(lambda: Composite(4, 5, 6, 3, nnx.Rngs(0)))
    found.bias[...] = jnp.zeros((4, 6))
    flat = jnp.eye(20).reshape(20, 4, 5)
    assert np.linalg.matrix_rank(np.asarray(run(found, flat)).reshape(20, 24), tol=1e-4) == 3


@pytest.mark.parametrize("rank", [None, 16])
def test_results_begin_as_large_as_what_comes_in(rank: int | None) -> None:
    # One learning rate suits all matrices, whatever their size, since each is divided by the root of its inputs.
    tokens = normal(200, 4, 64)
    for found in (PerToken(4, 64, 32, nnx.Rngs(0)), Composite(4, 64, 32, rank, nnx.Rngs(0))):
        assert float(run(found, tokens).std()) == pytest.approx(1, abs=0.1)
