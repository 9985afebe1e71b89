"""Belief: what a model that knows the whole user says of a request's candidates, in place of the bundle's prior.

The prior m_cj is a belief on the edges of a cluster, the same for all its users; the score is Σ_c w_c θ_cj, and an
edge that is missing is evidence against the item. A belief r_j about this very user takes its place: over the edges
that exist, with weights ŵ_c that add up to 1 there, every edge is believed r_j / Σ_c ŵ_c m_cj times as good, what users
have said since counts against that as it counted against the prior, and the score is Σ_c ŵ_c θ′_cj. So with nothing
said it is r_j, times what the policy makes of the item's quality and its optimism; with much said it is what the user's
clusters say, whatever was believed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bandit.statistics import Statistics


def of_logits(logits: NDArray[np.float32], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities in the order of a ranker's logits, as high on the whole as the prior.

    r_j = x_j / (1 + x_j) with odds x_j = mean(expected) · n · softmax(logits)_j. The prior of a row is made of the
    towers' softmax in the same way, but clipped; here the first candidates must not tie.

    Args:
        logits: float32[n].
        expected: float64[n], Σ_c w_c m_cj, the prior's own belief.

    Returns:
        float64[n], in (0, 1).
    """
    shares = np.exp(logits.astype(np.float64) - logits.max())
    odds = shares * (expected.sum() / shares.sum())
    return np.asarray(odds / (1 + odds))


def replace(
    theta: NDArray[np.floating], said: Statistics, ratio: NDArray[np.float64], pseudo_clicks: float
) -> NDArray[np.float64]:
    """Posterior means θ = (b + a) / (n + a / p) as they are with a belief of p · ratio, of at most 1, in place of p.

    Args:
        theta: float[E], of some edges, > 0.
        said: their sums.
        ratio: float64[E], > 0.
        pseudo_clicks: a > 0.

    Returns:
        float64[E].
    """
    gained = said.b + pseudo_clicks
    # a / p, which is at least a. Sums may be a moment younger than θ.
    worth = np.maximum(gained / theta - said.n, pseudo_clicks)
    return np.asarray(gained / (said.n + np.maximum(worth / ratio, pseudo_clicks)))
