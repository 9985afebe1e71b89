from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.bundle import Bundle
from bandit.lineage import trace
from bandit.statistics import EDGE_BYTES, from_row
from service.learned import Learned
from service.store.changes import RowChange
from service.store.keys import Keys, RowName
from tests.bundles import child_of, small_bundle

GRANDPARENT = small_bundle(users=5, items=20, clusters=4, width=6, version="1")
PARENT = child_of(GRANDPARENT, 1, users=5, items=22, clusters=5, width=6, version="2")
CHILD = child_of(PARENT, 2, users=5, items=21, clusters=3, width=9, version="3")
FAMILY = {bundle.manifest.version: bundle for bundle in (CHILD, PARENT, GRANDPARENT)}
SPACES = ("one", "other")
Edge = tuple[int, str]


def make(generations: int = 2) -> Learned:
    ancestors = [PARENT.lineage, GRANDPARENT.lineage][:generations]
    return Learned(CHILD, SPACES, trace(CHILD.lineage, ancestors))


def change(rng: np.random.Generator, bundle: Bundle, namespace: str) -> RowChange:
    cluster = int(rng.integers(bundle.graph.num_clusters))
    row = bundle.graph.row(cluster)
    size = row.stop - row.start
    slots = np.sort(rng.choice(size, rng.integers(1, size), replace=False))
    name = RowName(namespace, bundle.manifest.version, cluster)
    return RowChange(name, slots, rng.integers(0, 1 << 40, size=(len(slots), 3)))


def edge_of(bundle: Bundle, cluster: int, slot: int) -> Edge:
    return cluster, bundle.item_ids[bundle.graph.items[bundle.graph.indptr[cluster] + slot]]


def expected(
    said: Mapping[tuple[str, str], Mapping[Edge, list[int]]], namespace: str, generations: int
) -> list[list[int]]:
    """What every edge of the child is served by, from the words alone."""
    totals = []
    for cluster, item in zip(CHILD.graph.clusters.tolist(), CHILD.graph.items.tolist(), strict=True):
        total, at = np.zeros(3, dtype=np.int64), cluster
        for bundle in list(FAMILY.values())[: generations + 1]:
            total += said.get((namespace, bundle.manifest.version), {}).get((at, CHILD.item_ids[item]), [0, 0, 0])
            at = int(bundle.parents[at]) if at >= 0 and len(bundle.parents) else -1
        totals.append(total.tolist())
    return totals


@given(st.integers(0, 2**32 - 1), st.integers(0, 2))
def test_an_edge_is_served_by_its_own_sums_and_its_ancestors(seed: int, generations: int) -> None:
    rng, learned = np.random.default_rng(seed), make(generations)
    said: dict[tuple[str, str], dict[Edge, list[int]]] = {}
    for _ in range(30):
        version, namespace = str(rng.choice(list(FAMILY))), str(rng.choice(SPACES))
        told = change(rng, FAMILY[version], namespace)
        known = version in list(FAMILY)[: generations + 1]
        assert learned.apply(told) is known
        assert learned.apply(told) is known  # absolute values: twice is once
        for slot, sums in zip(told.slots.tolist(), told.sums.tolist(), strict=True):
            said.setdefault((namespace, version), {})[edge_of(FAMILY[version], told.name.cluster, slot)] = sums
        if rng.random() < 0.3:
            assert learned.served(namespace).tolist() == expected(said, namespace, generations)
    for namespace in SPACES:
        served = learned.served(namespace)
        assert served.tolist() == expected(said, namespace, generations)
        assert learned.own[namespace].tolist() == expected(said, namespace, 0)
        if generations:
            assert (learned.own[namespace] + learned.inherited[namespace]).tolist() == served.tolist()


def test_what_is_read_replaces_what_was_known() -> None:
    rng, learned = np.random.default_rng(0), make()
    for bundle in FAMILY.values():
        told = change(rng, bundle, "one")
        learned.apply(told)
        size = len(learned.row(told.name)) // EDGE_BYTES
        row = rng.integers(0, 1 << 40, size=(size - 1, 3)).astype(">i8").tobytes()
        learned.read(told.name, row)
        assert learned.row(told.name) == row + bytes(EDGE_BYTES)
        assert from_row(learned.row(told.name), size)[-1].tolist() == [0, 0, 0]
        learned.read(told.name, b"")
        assert not any(learned.row(told.name))
    assert not learned.served("one").any()


@pytest.mark.parametrize("generations", [0, 2])
def test_every_row_belongs_to_one_shard(generations: int) -> None:
    learned, keys = make(generations), Keys("om", 3)
    names = [name for shard in range(3) for name in learned.names(keys, shard)]
    assert len(set(names)) == len(names)
    followed = list(FAMILY.values())[: generations + 1]
    assert len(names) == len(SPACES) * sum(bundle.graph.num_clusters for bundle in followed)
    assert {name.version for name in names} == {bundle.manifest.version for bundle in followed}
    assert all(keys.shard_of_cluster(name.cluster) == 1 for name in learned.names(keys, 1))


def test_other_namespaces_and_versions_are_not_ours() -> None:
    rng, learned = np.random.default_rng(0), make(1)
    assert not learned.apply(change(rng, CHILD, "nobody's"))
    assert not learned.apply(change(rng, GRANDPARENT, "one"))
    assert not learned.served("one").any()
