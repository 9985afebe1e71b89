"""The contract that every interaction keeps, and what its paper writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax  # type: ignore[import-untyped]
import pytest
from flax import nnx

from offline.config import Hiformer as Config
from offline.interactions.autoint import AutoInt
from offline.interactions.dcn_v2 import DcnV2
from offline.interactions.dlrm import Dlrm
from offline.interactions.hiformer import Hiformer
from offline.interactions.transformer import Transformer
from tests.offline.interactions import reference
from tests.offline.towers.models import normal, run

TOKENS, WIDTH = 4, 6
SIZES = {"heads": 2, "key_width": 3, "value_width": 4, "key_rank": 6, "value_rank": 7}


def hiformer(projection: str, rngs: nnx.Rngs) -> Hiformer:
    return Hiformer(TOKENS, WIDTH, Config.model_validate({**SIZES, "projection": projection}), rngs, dropout=0.1)


INTERACTIONS: dict[str, Callable[[nnx.Rngs], Any]] = {
    "full rank": lambda rngs: hiformer("full_rank", rngs),
    "low rank": lambda rngs: hiformer("low_rank", rngs),
    "HeteroAtt": lambda rngs: hiformer("per_token", rngs),
    "Transformer": lambda rngs: Transformer(WIDTH, 2, 2, 3, 4, 0.1, rngs, tasks=2),
    "AutoInt": lambda rngs: AutoInt(TOKENS, WIDTH, 2, 2, 5, 0.1, rngs),
    "DCN-v2": lambda rngs: DcnV2(TOKENS, WIDTH, 2, (16, 8), 0.1, rngs),
    "DLRM": lambda rngs: Dlrm(TOKENS, WIDTH, 1, (16, 8), 0.1, rngs),
}


@pytest.fixture(params=INTERACTIONS)
def build(request: pytest.FixtureRequest) -> Callable[[], Any]:
    return lambda: INTERACTIONS[request.param](nnx.Rngs(0))


def test_is_what_its_paper_writes(build: Callable[[], Any]) -> None:
    model = build()
    for kind in (nnx.Param, nnx.BatchStat):
        state = nnx.state(model, kind)
        nnx.update(model, jax.tree.map(lambda leaf: jnp.abs(normal(*leaf.shape)), state))
    model.eval()
    tokens = normal(3, TOKENS, WIDTH)
    found = run(model, tokens)
    assert found.shape == (3, model.size)
    assert found.dtype == jnp.float32
    expected = [reference.interaction(model, np.asarray(row, np.float64)) for row in tokens]
    assert np.allclose(found, expected, atol=1e-3, rtol=1e-4)


def test_every_parameter_learns_and_an_interaction_is_learned(build: Callable[[], Any]) -> None:
    # Two features of two words each; the label is their exclusive or, of which a linear model knows nothing. The
    # other tokens say nothing.
    words = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 4)
    labels = jnp.asarray(words[:, 0] ^ words[:, 1], jnp.float32)
    values = np.tile(np.asarray(normal(1, TOKENS, WIDTH)), (len(words), 1, 1))
    for field in range(2):
        values[:, field] = np.asarray(normal(2, WIDTH, seed=field))[words[:, field]]
    tokens = jnp.asarray(values)
    linear = np.linalg.lstsq(np.c_[values.reshape(len(words), -1), np.ones(len(words))], np.asarray(labels))[0]
    assert np.allclose(np.c_[values.reshape(len(words), -1), np.ones(len(words))] @ linear, 0.5, atol=1e-4)

    gradient, losses = trained(build(), tokens, labels)
    assert all(np.abs(np.asarray(leaf)).max() > 0 for leaf in jax.tree.leaves(gradient))
    assert losses[0] > 0.3
    assert losses[-1] < 0.1


def trained(model: Any, tokens: jax.Array, labels: jax.Array) -> tuple[Any, Any]:
    """The sum of the absolute gradients, and the losses of 300 steps: one compilation for all."""
    head = nnx.Linear(model.size, 1, rngs=nnx.Rngs(1))
    parts = nnx.List([model, head])
    parts.train()  # type: ignore[no-untyped-call]
    graph, parameters, *others = nnx.split(parts, nnx.Param, ...)
    optimiser = optax.adam(1e-2)

    def loss(parameters: Any, rest: Any) -> tuple[jax.Array, Any]:
        interaction, head = merged = nnx.merge(graph, parameters, rest, copy=True)
        found = head(interaction(tokens))[:, 0]
        return optax.sigmoid_binary_cross_entropy(found, labels).mean(), nnx.state(merged, nnx.Not(nnx.Param))

    def step(state: Any, _: None) -> tuple[Any, Any]:
        parameters, rest, moments, total = state
        (found, rest), gradient = jax.value_and_grad(loss, has_aux=True)(parameters, rest)
        total = jax.tree.map(lambda total, part: total + jnp.abs(part), total, gradient)
        change, moments = optimiser.update(gradient, moments)
        return (optax.apply_updates(parameters, change), rest, moments, total), found

    start = (parameters, others[0], optimiser.init(parameters), jax.tree.map(jnp.zeros_like, parameters))
    (_, _, _, total), losses = jax.jit(lambda start: jax.lax.scan(step, start, length=300))(start)
    return total, losses
