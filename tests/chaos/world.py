"""The world of a run: two bundles on one graph, and slates that a server could have served from them."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from bandit import bundle
from bandit.bundle import Bundle
from bandit.context import UNIT
from service import pseudonym
from service.token import NO_EDGE, AttributionToken, encode
from tests.bundles import small_bundle

FIRST, SECOND = "20260101T000000Z", "20260202T000000Z"
TABLES = {"reward_table": {"click": 0.25, "watch": 0.5}, "examination_table": [1.0, 0.7, 0.5]}
SECRETS = {1: "the servers' own secret", 2: "another one"}
PSEUDONYMS = "the pseudonyms' secret"
NAMESPACES = ("default", "paper")
LIFE_S = 600
USERS = 200


class Slate(NamedTuple):
    """A token as text, its request's id, and the items it shows."""

    token: str
    request: str
    items: list[str]


class World:
    """Bundles, and slates drawn from them by one seed."""

    def __init__(self, seed: int, epoch: bytes, secrets: dict[int, str], pseudonyms: str) -> None:
        """`epoch` is the feedback log's, `secrets` sign tokens, `pseudonyms` hash ids."""
        self._rng = np.random.default_rng(seed)
        self._epoch = epoch
        self._keys = {key_id: secret.encode() for key_id, secret in secrets.items()}
        self._graph = first_bundle().graph
        self._item_ids = first_bundle().item_ids
        key = pseudonyms.encode()
        self._items = pseudonym.of_items(self._item_ids, key)
        self._users = [bytes(16), *(pseudonym.of_user(f"user-{n}", key) for n in range(USERS))]

    def slate(self, version: str, issued_ms: int, key_id: int = 1) -> Slate:
        """One to five items over three clusters; signed with a stranger's secret for a key id that is not known."""
        rng, graph = self._rng, self._graph
        clusters = rng.choice(graph.num_clusters, 3, replace=False)
        cuts = np.sort(rng.choice(np.arange(1, UNIT), 2, replace=False))
        home = graph.row(int(clusters[0]))
        items = rng.choice(graph.items[home], int(rng.integers(1, 6)), replace=False)
        slots = np.full((len(items), 3), NO_EDGE, dtype=np.int32)
        for k, cluster in enumerate(clusters.tolist()):
            row = graph.row(cluster)
            at, slot = np.nonzero(items[:, None] == graph.items[row][None, :])
            slots[at, k] = slot
        request = rng.bytes(16)
        token = AttributionToken(
            epoch=self._epoch,
            request_id=request,
            user=self._users[int(rng.integers(len(self._users)))],
            issued_ms=issued_ms,
            life_s=LIFE_S,
            randomised_over=0,
            arm="default",
            namespace=NAMESPACES[int(rng.integers(len(NAMESPACES)))],
            version=version,
            clusters=clusters.astype(np.uint32),
            weights=np.diff(np.r_[0, cuts, UNIT]).astype(np.int64),
            items=self._items[items],
            flags=np.zeros(len(items), dtype=np.uint8),
            slots=slots,
        )
        text = encode(token, key_id if key_id in self._keys else 1, self._keys.get(key_id, b"stolen"))
        return Slate(text, token.recommendation_id, [self._item_ids[item] for item in items.tolist()])


def first_bundle() -> Bundle:
    """What is served from the start."""
    plain = small_bundle(users=USERS, items=400, clusters=24, width=60, version=FIRST)
    return replace(plain, manifest=plain.manifest.model_copy(update=TABLES))


def second_bundle() -> Bundle:
    """What is activated in mid-traffic: the first one's child, which inherits what was learned."""
    first = first_bundle()
    manifest = first.manifest.model_copy(update={"version": SECOND, "parent_version": FIRST})
    return replace(first, manifest=manifest, parents=np.arange(first.graph.num_clusters, dtype=np.int32))


def publish(served: Bundle, root: str) -> None:
    """Put a bundle where servers and folds find it."""
    bundle.write(served, root)
