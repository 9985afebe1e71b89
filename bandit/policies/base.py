"""The contract of every policy: one pure function from sums and beliefs to the arrays that the kernel scores."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from bandit.graph import Graph
from bandit.prior import Prior
from bandit.statistics import Statistics

EVERY_CANDIDATE = -1
ZEROS: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
FALSES: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)


class Derived(NamedTuple):
    """What a replica keeps per edge and item for one policy; the kernel needs nothing else.

    For a context of weights w over clusters c, an item j that has an edge to at least one of them scores

        base_j + Σ_c w_c · optimistic_cj  +  alpha · sqrt( [M (1 − M)] · Σ_c w_c² · variance_cj )

    over the edges that exist, where the bracket, with M = base_j + Σ_c w_c · mean_cj, counts only if `bernoulli`.
    The explanation's mean is M, its bonus the score minus M. Items with an untouched edge among them go first, in
    random order. An array of length 0 stands for zeros (`untouched`: false).

    Attributes:
        mean: float32[E], the edge's part of the expected reward.
        optimistic: float32[E], the same with the policy's optimism; may be the same array.
        variance: float32[E] or float32[0].
        base: float32[J] or float32[0], what an item scores whatever the context.
        untouched: bool[E] or bool[0], edges that nobody has seen, where the policy gives them an infinite bonus.
        alpha: exploration strength α of the root.
        bernoulli: whether the root scales with the mean's own spread.
    """

    mean: NDArray[np.float32]
    optimistic: NDArray[np.float32]
    variance: NDArray[np.float32] = ZEROS
    base: NDArray[np.float32] = ZEROS
    untouched: NDArray[np.bool_] = FALSES
    alpha: float = 0.0
    bernoulli: bool = False


class Policy(Protocol):
    """A way of choosing, as a frozen dataclass of its parameters."""

    @property
    def name(self) -> str:
        """How the experiment table calls it."""
        ...

    @property
    def randomise_over(self) -> int:
        """k: every slate is drawn uniformly from the k best; 0: the best, in order; or EVERY_CANDIDATE."""
        ...

    def derive(self, graph: Graph, statistics: Statistics, prior: Prior) -> Derived:
        """Turn sums (float64[E] each) and the prior into the arrays that the kernel scores. Pure."""
        ...
