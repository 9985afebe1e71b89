"""The in-batch softmax with logQ correction (Yi et al. 2019, Sampling-Bias-Corrected Neural Modeling)."""

import jax
import jax.numpy as jnp


def in_batch_softmax(
    logits: jax.Array, log_q: jax.Array, weights: jax.Array, targets: jax.Array, there: jax.Array
) -> jax.Array:
    """Mean over targets t of −weight_t · log( e^{s_t} / (e^{s_t} + Σ_n e^{s_n − log N·q_n}) ).

    The negatives n of a visit are the N targets of the batch, each as often as it is one, but for the visit's own
    items. Item n is drawn N·q_n times on average, so the sum estimates that over the whole catalogue whatever is
    popular, and e^s is proportional to p(item | user), times the item's weight where these differ.

    Args:
        logits: float32[B, S], s of every visit and every item of the batch.
        log_q: float32[S], log of each item's share among targets.
        weights: float32[S], what a target counts that is this item; 1 on average, so that the mean stays one.
        targets: int32[B, T], places in S.
        there: bool[B, T], which targets count; at least one.
    """
    rows = jnp.arange(len(targets))[:, None]
    own = jnp.zeros(logits.shape, bool).at[rows, targets].max(there)
    times = jnp.zeros(logits.shape[1]).at[targets].add(there)
    corrected = logits + jnp.log(jnp.maximum(times, 1) / jnp.sum(there)) - log_q
    # -1e9 and not -inf, whose gradient is undefined where a visit has no negative at all.
    rest = jax.nn.logsumexp(jnp.where(own | (times == 0), -1e9, corrected), axis=1, keepdims=True)
    positive = logits[rows, targets]
    losses = weights[targets] * (jnp.logaddexp(positive, rest) - positive)
    return jnp.sum(losses * there) / jnp.sum(there)
