"""Slates: what one response shows, how likely each item was to be in it, and why it is there."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit.kernel import Candidates, Leaders, best
from bandit.policies.base import EVERY_CANDIDATE


class Source(IntEnum):
    """Why an item is in the slate."""

    EXPLORE = 0
    """By chance or by its bonus: its mean alone would not have put it there."""
    EXPLOIT = 1
    """Its mean alone puts it there."""
    FALLBACK = 2
    """The context had too few candidates."""


class Slate(NamedTuple):
    """The items of one response, in order.

    Attributes:
        items: int32[L], item numbers, unique.
        scores: float32[L], NaN for back-filled items.
        means: float32[L], the expected reward without bonus, NaN for back-filled items.
        propensities: float32[L], the probability of being in the slate given the scores, NaN where nothing was
            randomised and for back-filled items.
        sources: uint8[L] of `Source`.
        randomised_over: k, from how many candidates the slate was drawn uniformly; 0: it was not.
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]
    means: NDArray[np.float32]
    propensities: NDArray[np.float32]
    sources: NDArray[np.uint8]
    randomised_over: int


def draw(
    candidates: Candidates,
    limit: int,
    randomise_over: int,
    rng: np.random.Generator,
    fallback: NDArray[np.int32],
    excluded: NDArray[np.int32],
) -> Slate:
    """Choose a slate of `limit` items, or as many as the catalogue allows.

    Candidates rank by their scores, after those with an untouched edge, which go first in random order. Not
    randomised, the slate is the best in order. Randomised over k, it is drawn uniformly without replacement from the
    k best, in random order: each of them is in it with probability places / k, and on each place with 1 / k. Since
    untouched candidates tie for the first rank, k is at least their number: only then are these the probabilities.

    Args:
        candidates: what the kernel scored, n items.
        limit: places to fill, ≥ 0.
        randomise_over: k; raised to `limit` where less; 0: do not randomise; EVERY_CANDIDATE: all n.
        rng: the source of chance.
        fallback: int32[J], item numbers in the order in which they fill up places that candidates leave.
        excluded: int32[m], item numbers that must not appear (the kernel has dropped them from the candidates).
    """
    n = len(candidates.items)
    places = min(limit, n)
    k = _pool_size(candidates, limit, randomise_over)
    chosen = _first(candidates, k or places, rng)
    if k:
        chosen = chosen[rng.choice(k, places, replace=False)]

    items, scores, means = candidates.items[chosen], candidates.scores[chosen], candidates.means[chosen]
    propensities = np.full(places, places / k if k else np.nan, dtype=np.float32)
    if k > places:
        sources = np.full(places, Source.EXPLORE, dtype=np.uint8)
    else:
        lowest = candidates.means[best(candidates.means, places)[-1:]]
        sources = (means >= lowest).astype(np.uint8)  # EXPLOIT where true, EXPLORE where not
    if places < limit:
        filled = _back_fill(limit - places, items, fallback, excluded)
        nothing = np.full(len(filled), np.nan, dtype=np.float32)
        items = np.concatenate([items, filled])
        scores, means, propensities = (np.concatenate([known, nothing]) for known in (scores, means, propensities))
        sources = np.concatenate([sources, np.full(len(filled), Source.FALLBACK, dtype=np.uint8)])
    return Slate(items, scores, means, propensities, sources, k)


def of_leaders(leaders: Leaders) -> Slate:
    """The slate that is simply the best in order, as `draw` would make it."""
    propensities = np.empty_like(leaders.scores)
    propensities.fill(np.nan)
    # EXPLOIT where true, EXPLORE where not
    return Slate(leaders.items, leaders.scores, leaders.means, propensities, leaders.by_mean.view(np.uint8), 0)


def logging_slice(policy_randomise_over: int, share: float, k: int, rng: np.random.Generator) -> int:
    """What to randomise one request over: a `share` of requests is drawn from the k best, for propensities.

    A policy that randomises anyway is left as it is.
    """
    return policy_randomise_over or (k if rng.random() < share else 0)


def _pool_size(candidates: Candidates, limit: int, randomise_over: int) -> int:
    n = len(candidates.items)
    if randomise_over == EVERY_CANDIDATE:
        return n
    if randomise_over == 0:
        return 0
    return min(max(randomise_over, limit, int(np.count_nonzero(candidates.untouched))), n)


def _first(candidates: Candidates, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """int64[count], the candidates that rank first, in order."""
    if len(candidates.untouched) == 0 or not candidates.untouched.any():
        return best(candidates.scores, count)
    untouched = np.flatnonzero(candidates.untouched)
    leading = untouched[rng.choice(len(untouched), min(count, len(untouched)), replace=False)]
    if len(leading) == count:
        return leading
    rest = np.flatnonzero(~candidates.untouched)
    return np.concatenate([leading, rest[best(candidates.scores[rest], count - len(leading))]])


def _back_fill(
    count: int, chosen: NDArray[np.int32], fallback: NDArray[np.int32], excluded: NDArray[np.int32]
) -> NDArray[np.int32]:
    """int32[≤ count], the first items of `fallback` that are neither chosen nor excluded."""
    taken = np.concatenate([chosen, excluded])
    prefix = fallback[: count + len(taken)]  # long enough, even if all that is taken comes first
    return prefix[~np.isin(prefix, taken)][:count]
