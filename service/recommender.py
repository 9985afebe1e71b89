"""Recommender: from who asks to a slate, its explanation and its token. No I/O: the caller brings what Redis knows."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from bandit import belief, kernel, slate
from bandit.bundle import Bundle
from bandit.context import UNIT, Context
from bandit.kernel import Candidates, Workspace
from bandit.policies.base import Derived
from bandit.policies.calibrated_diag_linucb import CalibratedDiagLinUCB
from bandit.slate import Slate, Source
from service import metrics, pseudonym
from service import token as tokens
from service.experiment import policy_of
from service.ranker import Ranker
from service.replica import Replica
from service.settings import Arm, Settings
from service.token import HAS_PROPENSITY, AttributionToken

SOURCES = {Source.EXPLORE: "explore", Source.EXPLOIT: "exploit", Source.FALLBACK: "fallback"}
NOTHING: NDArray[np.int32] = np.zeros(0, dtype=np.int32)


class Served(NamedTuple):
    """A slate with what came of it: item ids, the token and its request's id.

    Attributes:
        beliefs: float32[L], what the ranker believes of each item, NaN for back-fill; None where it was not asked.
    """

    slate: Slate
    beliefs: NDArray[np.float32] | None
    item_ids: list[str]
    edges: NDArray[np.int32]
    recommendation_id: str
    attribution_token: str


class Asker(NamedTuple):
    """What the ranker is told of who asks.

    Attributes:
        row: of a user whom the bundle knows, or None.
        recent: int32[m], item numbers that the user answered lately, the latest first.
    """

    row: int | None = None
    recent: NDArray[np.int32] = NOTHING


NOBODY = Asker()


class Recommender:
    """Serves one bundle; used by one thread.

    Args:
        settings: of the service.
        bundle: what is served.
        replica: what users have said, for the same bundle.
        ranker: the bundle's, if it is to order the best candidates anew.
    """

    def __init__(self, settings: Settings, bundle: Bundle, replica: Replica, ranker: Ranker | None = None) -> None:
        self.bundle = bundle
        self.ranker = ranker
        self.replica = replica
        self._settings = settings
        self._key = settings.verifying_keys[settings.token_key]
        self._rng = np.random.default_rng(settings.seed)
        self._request_ids = _request_ids()
        self._workspace = Workspace(bundle.graph.num_items)
        self._pseudonyms = pseudonym.of_items(bundle.item_ids, settings.pseudonym_bytes)
        self._by_pseudonym = np.argsort(self._pseudonyms, kind="stable").astype(np.int32)
        self._sorted_pseudonyms = self._pseudonyms[self._by_pseudonym]
        # Items shown by arm and source since they were last published.
        self._shown = {arm.name: [0] * len(SOURCES) for arm in settings.arms}

    def publish(self) -> None:
        """Bring the metric of shown items up to date; a counter of its own would cost every request."""
        for arm, shown in self._shown.items():
            for source, name in SOURCES.items():
                metrics.SLATE_ITEMS.labels(arm, name).inc(shown[source])
                shown[source] = 0

    def numbers(self, item_ids: Sequence[str]) -> NDArray[np.int32]:
        """Item numbers of the ids that this bundle has."""
        known = self.bundle.item_numbers
        return np.array([known[item_id] for item_id in item_ids if item_id in known], dtype=np.int32)

    def numbers_of(self, pseudonyms: NDArray[np.uint32]) -> NDArray[np.int32]:
        """Item numbers that pseudonyms (uint32[n]) may stand for: all of them, where two items share one."""
        first = np.searchsorted(self._sorted_pseudonyms, pseudonyms, "left")
        counts = np.searchsorted(self._sorted_pseudonyms, pseudonyms, "right") - first
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        numbers: NDArray[np.int32] = self._by_pseudonym[np.repeat(first, counts) + within]
        return numbers

    def serve(
        self,
        *,
        arm: Arm,
        user: bytes,
        context: Context,
        limit: int,
        excluded: NDArray[np.int32],
        epoch: bytes,
        asker: Asker = NOBODY,
    ) -> Served:
        """Choose and sign a slate.

        Args:
            arm: who chooses.
            user: the user's pseudonym, 16 bytes.
            context: clusters of this bundle's graph.
            limit: places, 1–200.
            excluded: int32[m], item numbers that must not appear.
            epoch: of the feedback log that will take the events.
            asker: for the ranker.
        """
        bundle, settings = self.bundle, self._settings
        drawn, slots, beliefs = self._choose(arm, context, limit, excluded, asker)
        sources, shown = drawn.sources.tobytes(), self._shown[arm.name]
        for source in SOURCES:
            shown[source] += sources.count(source)
        token = AttributionToken(
            epoch=epoch,
            request_id=next(self._request_ids),
            user=user,
            issued_ms=time.time_ns() // 1_000_000,
            life_s=settings.token_life_s,
            randomised_over=drawn.randomised_over,
            arm=arm.name,
            namespace=arm.namespace,
            version=bundle.manifest.version,
            clusters=context.clusters,
            weights=context.weights,
            items=self._pseudonyms[drawn.items],
            flags=_flags(drawn),
            slots=slots,
        )
        text = tokens.encode(token, settings.token_key, self._key)
        ids = bundle.item_ids
        item_ids = [ids[number] for number in drawn.items.tolist()]
        return Served(drawn, beliefs, item_ids, slots, token.recommendation_id, text)

    def ranks(self, arm: Arm) -> bool:
        """Whether the ranker has a say in an arm's slates: where its policy holds a belief that can be replaced."""
        believes = isinstance(policy_of(arm), CalibratedDiagLinUCB) and self.bundle.prior.informed
        return believes and self.ranker is not None

    def _choose(
        self, arm: Arm, context: Context, limit: int, excluded: NDArray[np.int32], asker: Asker
    ) -> tuple[Slate, NDArray[np.int32], NDArray[np.float32] | None]:
        """A slate, its edges' slots, and what the ranker believes of its items."""
        graph, settings = self.bundle.graph, self._settings
        derived = self.replica.derived[arm.name]
        randomise_over = policy_of(arm).randomise_over
        k = slate.logging_slice(randomise_over, settings.logging_share, settings.logging_k, self._rng)
        if self.ranker is not None and self.ranks(arm):
            with metrics.RANKER_SECONDS.time():
                scored = kernel.score(graph, context, derived, excluded, self._workspace)
                candidates, believed = self._ranked(self.ranker, scored, derived, arm, context, asker)
            drawn = slate.draw(candidates, limit, k, self._rng, self.bundle.item_order, excluded)
            return drawn, kernel.edges(graph, context, drawn.items), _of(drawn.items, candidates.items, believed)
        if k == 0 and len(derived.untouched) == 0:
            leaders = kernel.lead(graph, context, derived, excluded, self._workspace, limit)
            if leaders is not None:
                return slate.of_leaders(leaders), leaders.slots, None
        candidates = kernel.score(graph, context, derived, excluded, self._workspace)
        drawn = slate.draw(candidates, limit, k, self._rng, self.bundle.item_order, excluded)
        return drawn, kernel.edges(graph, context, drawn.items), None

    def _ranked(
        self, ranker: Ranker, scored: Candidates, derived: Derived, arm: Arm, context: Context, asker: Asker
    ) -> tuple[Candidates, NDArray[np.float64]]:
        """The best candidates, as they score with the ranker's belief in place of the prior, and that belief."""
        chosen = kernel.best(scored.scores, self._settings.ranker_candidates)
        items = scored.items[chosen]
        if not len(items):
            return scored, np.zeros(0)
        graph = self.bundle.graph
        slots = kernel.edges(graph, context, items)
        rows, places = np.nonzero(slots >= 0)
        edges = graph.indptr[context.clusters[places]] + slots[rows, places]
        weights = context.weights[places] / UNIT

        def summed(values: NDArray[np.floating]) -> NDArray[np.float64]:
            return np.bincount(rows, weights=weights * values, minlength=len(items)).astype(np.float64, copy=False)

        expected = summed(self.bundle.prior.probability[edges])
        believed = belief.of_logits(ranker.logits(asker.row, asker.recent, items), expected)
        # That an edge is missing tells something of the user that the ranker knows better: those there are count.
        covered = summed(np.ones(len(edges)))
        ratio = (believed * covered / expected)[rows]
        weights /= covered[rows]
        said = self.replica.statistics(arm.namespace, edges)
        a = cast(CalibratedDiagLinUCB, policy_of(arm)).pseudo_clicks
        means, scores = (
            summed(belief.replace(theta[edges], said, ratio, a)).astype(np.float32)
            for theta in (derived.mean, derived.optimistic)
        )
        return Candidates(items, scores, means, scored.untouched[:0]), believed

    def explain(self, served: Served, arm: Arm, context: Context) -> list[dict[str, Any] | None]:
        """Why each item scores as it does: mean + bonus = score, and what its edges have seen; None for back-fill."""
        explanations: list[dict[str, Any] | None] = []
        rows = self.bundle.graph.indptr[context.clusters]
        for place, (mean, score) in enumerate(zip(served.slate.means, served.slate.scores, strict=True)):
            if np.isnan(score):
                explanations.append(None)
                continue
            present = served.edges[place] >= 0
            edges = rows[present] + served.edges[place][present]
            own, inherited = self.replica.impressions(arm.namespace, edges)
            explanations.append(
                {
                    "mean": float(mean),
                    "bonus": float(score - mean),
                    "impressions": float(own.sum() + inherited.sum()),
                    "inherited": float(inherited.sum()),
                    "belief": None if served.beliefs is None else float(served.beliefs[place]),
                    "clusters": context.clusters[present].tolist(),
                }
            )
        return explanations


def _of(wanted: NDArray[np.int32], items: NDArray[np.int32], values: NDArray[np.float64]) -> NDArray[np.float32]:
    """float32[L], the values of some of the items; NaN for those that are not among them."""
    found = wanted[:, None] == items
    told = np.where(found.any(axis=1), (found * values).sum(axis=1), np.nan)
    return np.asarray(told, dtype=np.float32)


def _flags(drawn: Slate) -> NDArray[np.uint8]:
    if drawn.randomised_over == 0:
        return np.zeros(len(drawn.items), dtype=np.uint8)
    return np.isfinite(drawn.propensities).view(np.uint8) * HAS_PROPENSITY


def _request_ids() -> Iterator[bytes]:
    """16 random bytes a request, asked of the system for many requests at once."""
    while True:
        block = os.urandom(16 * 256)
        yield from (block[at : at + 16] for at in range(0, len(block), 16))
