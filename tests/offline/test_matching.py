import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from bandit.bundle import Bundle
from bandit.graph import Graph
from bandit.prior import Prior
from offline.matching import assign, match
from tests.bundles import small_bundle

OLD = small_bundle()


def renumbered(bundle: Bundle, seed: int) -> tuple[Bundle, NDArray[np.int64], NDArray[np.int64]]:
    """The same bundle with its clusters, items and users in another order, and its space turned; old numbers by new."""
    rng = np.random.default_rng(seed)
    graph = bundle.graph
    clusters, items, users = (rng.permutation(n) for n in (graph.num_clusters, graph.num_items, len(bundle.users)))
    new_cluster, new_item = np.argsort(clusters), np.argsort(items)
    keys = new_cluster[graph.clusters] * graph.num_items + new_item[graph.items]
    order = np.argsort(keys)
    turned = dataclasses.replace(
        bundle,
        graph=Graph.from_edges(new_cluster[graph.clusters], new_item[graph.items], graph.num_clusters, graph.num_items),
        prior=Prior(bundle.prior.probability[order], bundle.prior.strength[items], informed=True),
        centroids=-bundle.centroids[clusters],
        user_clusters=new_cluster[bundle.user_clusters[users]].astype(np.int32),
        user_weights=bundle.user_weights[users],
        items=bundle.items.take(items),
        users=bundle.users.take(users),
    )
    return turned, clusters, items


def renamed(table: pa.Table, column: str) -> pa.Table:
    names = pa.array([f"other {name}" for name in table[column].to_pylist()])
    return table.set_column(table.column_names.index(column), column, names)


@given(st.integers(0, 2**32 - 1))
def test_clusters_in_another_order_are_found_again(seed: int) -> None:
    new, clusters, _ = renumbered(OLD, seed)
    found = match(new, OLD)
    assert found.parents.tolist() == clusters.tolist()
    assert found[1:] == pytest.approx((1, 1, 1))


@given(st.integers(0, 2**32 - 1))
def test_without_common_users_items_decide(seed: int) -> None:
    new, clusters, _ = renumbered(OLD, seed)
    strangers = dataclasses.replace(new, users=renamed(new.users, "user_id"))
    assert match(strangers, OLD).parents.tolist() == clusters.tolist()


def test_without_common_items_nothing_carries_over() -> None:
    found = match(dataclasses.replace(OLD, items=renamed(OLD.items, "item_id")), OLD)
    assert set(found.parents.tolist()) == {-1}
    assert (found.clusters, found.edges, found.weight) == (0, 0, 0)


def test_clusters_of_other_people_do_not_fit() -> None:
    """Everybody is alone in a cluster of all items; in the new bundle two of them are somebody else."""
    bundle = small_bundle(users=4, clusters=4, items=5, width=5, clusters_per_user=1)
    alone = np.arange(4, dtype=np.int32)[:, None]
    weights = np.full((4, 1), 1 << 15, dtype=np.int32)
    old = dataclasses.replace(bundle, user_clusters=alone, user_weights=weights)
    users = old.users["user_id"].to_pylist()
    others = pa.table({"user_id": [users[1], "stranger", users[0], "another"]})
    found = match(dataclasses.replace(old, users=others), old)
    assert found.parents.tolist() == [1, -1, 0, -1]
    assert found.clusters == found.edges == 0.5


@pytest.mark.parametrize(("before", "parent"), [(16, -1), (4, 0)])
def test_clusters_that_share_little_do_not_fit(before: int, parent: int) -> None:
    """Of the first cluster's members one is left, the others went to the second, which kept its own 20."""
    users = before + 20
    bundle = small_bundle(users=users, clusters=2, items=5, width=5, clusters_per_user=1)
    weights = np.full((users, 1), 1 << 15, dtype=np.int32)

    def with_first(members: int) -> Bundle:
        clusters = (np.arange(users, dtype=np.int32) >= members).astype(np.int32)[:, None]
        return dataclasses.replace(bundle, user_clusters=clusters, user_weights=weights)

    assert match(with_first(1), with_first(before)).parents.tolist() == [parent, 1]


@st.composite
def gains(draw: st.DrawFn) -> NDArray[np.float64]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    dense: NDArray[np.float64] = rng.exponential(size=shape) * (rng.random(shape) < draw(st.floats(0, 1)))
    return dense


@given(gains())
@example(np.array([[0.0, 0.69, 1.65], [0.0, 0.0, 1.11], [0.0, 0.0, 0.0]]))  # two pairs gain more than the best one
def test_no_assignment_gains_more(dense: NDArray[np.float64]) -> None:
    found = assign(sparse.csr_array(dense))
    assert found.shape == (len(dense),)
    taken = found >= 0
    assert len(np.unique(found[taken])) == taken.sum()
    assert (dense[taken, found[taken]] > 0).all()
    rows, columns = linear_sum_assignment(dense, maximize=True)
    assert dense[taken, found[taken]].sum() == pytest.approx(dense[rows, columns].sum())


@given(st.integers(0, 100), st.integers(0, 100), st.integers(2, 9))
def test_any_two_bundles_match_injectively(seed: int, other: int, clusters: int) -> None:
    old, new = small_bundle(seed), small_bundle(other, clusters=clusters, items=50)
    found = match(new, old)
    assert len(found.parents) == clusters
    assert found.parents.dtype == np.int32
    known = found.parents[found.parents >= 0]
    assert len(np.unique(known)) == len(known)
    assert known.size == 0 or known.max() < old.graph.num_clusters
    assert 0 <= found.edges <= 1
    assert 0 <= found.weight <= 1 + 1e-9
