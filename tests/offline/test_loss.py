import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offline.loss import in_batch_softmax

TARGETS = jnp.array([[0, 1], [2, -1], [0, 3]])
THERE = TARGETS >= 0


def test_equals_the_softmax_written_out() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    q = np.array([0.4, 0.1, 0.2, 0.2, 0.1], dtype=np.float32)
    batch = [[0, 1], [2], [0, 3]]  # five targets
    weights = np.array([1.5, 0.0, 2.0, 0.5, 9.0], dtype=np.float32)
    losses = []
    for row, own in enumerate(batch):
        others = [item for visit in batch for item in visit if item not in own]
        negatives = sum(np.exp(logits[row, item]) / (5 * q[item]) for item in others)
        odds = {item: np.exp(logits[row, item]) / negatives for item in own}
        losses += [-weights[item] * np.log(odds[item] / (1 + odds[item])) for item in own]
    found = in_batch_softmax(jnp.array(logits), jnp.log(jnp.array(q)), jnp.array(weights), TARGETS, THERE)
    assert float(found) == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_visit_without_negatives_costs_nothing_and_has_a_gradient() -> None:
    targets = jnp.array([[0, 1]])
    arguments = jnp.zeros(3), jnp.ones(3), targets, targets >= 0
    value, gradient = jax.value_and_grad(in_batch_softmax)(jnp.ones((1, 3)), *arguments)
    assert float(value) == pytest.approx(0)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [0.5, 1.0, 4.0]])
def test_log_q_makes_up_for_being_drawn_often_and_weights_for_being_taken_seldom(weights: list[float]) -> None:
    """Minimised over logits, with popular items drawn often, the loss finds the visits' preferences, weighted."""
    generator = np.random.default_rng(0)
    taste = np.array([0.6, 0.3, 0.1])
    visits = generator.choice(3, size=(4000, 1), p=taste)
    log_q = jnp.log(jnp.array(taste))
    targets, there = jnp.array(visits), jnp.ones((4000, 1), dtype=bool)

    def loss(logits: jax.Array) -> jax.Array:
        everybody = jnp.broadcast_to(logits, (4000, 3))
        return in_batch_softmax(everybody, log_q, jnp.array(weights), targets, there)

    logits = jnp.zeros(3)
    step = jax.jit(jax.grad(loss))
    for _ in range(200):
        logits -= 2.0 * step(logits)
    # Everybody has the same taste, so p(item | user) is the taste itself.
    expected = taste * np.array(weights) / np.sum(taste * np.array(weights))
    assert np.asarray(jax.nn.softmax(logits)) == pytest.approx(expected, abs=0.03)
