"""The in-batch softmax with logQ correction (Yi et al. 2019, Sampling-Bias-Corrected Neural Modeling)."""

import jax
import jax.numpy as jnp


def in_batch_softmax(logits: jax.Array, log_q: jax.Array, targets: jax.Array, there: jax.Array) -> jax.Array:
    """Mean over targets t of −log( e^{s_t} / (e^{s_t} + Σ_n e^{s_n}) ), with s = logit − log q.

    The negatives n of a visit are the other visits' targets, each as often as it is one, but for those that the visit
    holds itself. Taking log q off makes up for popular items being negatives more often, so e^{logit} estimates
    p(item | user) up to a factor of the user.

    Args:
        logits: float32[B, S], every visit against every item of the batch.
        log_q: float32[S], log of each item's share among targets.
        targets: int32[B, T], places in S.
        there: bool[B, T], which targets count; at least one.
    """
    corrected = logits - log_q
    rows = jnp.arange(len(targets))[:, None]
    own = jnp.zeros(logits.shape, bool).at[rows, targets].max(there)
    times = jnp.zeros(logits.shape[1]).at[targets].add(there)
    # -1e9 and not -inf, whose gradient is undefined where a visit has no negative at all.
    negatives = jnp.where(own | (times == 0), -1e9, corrected + jnp.log(jnp.maximum(times, 1)))
    rest = jax.nn.logsumexp(negatives, axis=1)
    positive = corrected[rows, targets]
    return jnp.sum((jnp.logaddexp(positive, rest[:, None]) - positive) * there) / jnp.sum(there)
