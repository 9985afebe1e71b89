"""The kernels alone; what they come to is tested in test_deltas.py."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.fold import kernel
from service.token import NO_EDGE, AttributionToken
from tests.service.tokens import opened, tokens


def mask(positions: int) -> bytes:
    return positions.to_bytes(kernel.MASK_BYTES, "little")


def spread(token: AttributionToken, positions: int, reward: int) -> list[list[int]]:
    """(cluster, slot, d, n, b) of a token that stands behind another one; every place is examined as often as it is."""
    before = opened(token._replace(arm="another")).body
    bodies = np.frombuffer(before + opened(token).body, dtype=np.uint8)
    shown = np.frombuffer(mask(0) + mask(positions), dtype=np.uint8).reshape(2, -1)
    starts, rewards, groups = np.array([0, len(before)]), np.array([-1, reward]), np.array([0, 1])
    examination = np.stack([np.zeros(kernel.MOST_ITEMS), np.arange(kernel.MOST_ITEMS)]).astype(np.int64)
    most = kernel.count(bodies, starts, shown)
    edges, sums = np.zeros((most, 4), dtype=np.int64), np.zeros((most, 3), dtype=np.int64)
    written = kernel.spread(bodies, starts, shown, rewards, groups, examination, edges, sums)
    assert written <= most
    assert (edges[:written, [0, 3]] == 1).all()
    return [[*edge[1:3], *gains] for edge, gains in zip(edges[:written].tolist(), sums[:written].tolist(), strict=True)]


@given(tokens(), st.data())
def test_every_edge_of_the_named_items_gains_its_part(token: AttributionToken, data: st.DataObject) -> None:
    items = len(token.items)
    positions = data.draw(st.integers(0, 2**items - 1))
    reward = data.draw(st.sampled_from([-1, 0, 1, 32768]))
    expected = [
        [cluster, slot, *((weight * weight, item * weight, 0) if reward < 0 else (0, 0, weight * reward))]
        for item in range(items)
        if positions >> item & 1
        for cluster, weight, slot in zip(
            token.clusters.tolist(), token.weights.tolist(), token.slots[item].tolist(), strict=True
        )
        if slot != NO_EDGE
    ]
    assert spread(token, positions, reward) == expected


def test_entries_side_by_side_are_summed_where_they_are_kept() -> None:
    edges = np.array([[0, 1, 1, 0], [0, 1, 2, 0], [0, 1, 1, 1], [1, 1, 1, 1], [0, 2, 1, 1], [0, 1, 1, 2]])
    sums = np.array([[n, 10 * n, 100 * n] for n in range(1, 7)])
    order = np.array([2, 0, 5, 1, 4, 3])
    kept = np.array([True, True, True, True, True, False])
    first, totals = np.zeros(6, dtype=np.int64), np.zeros((6, 3), dtype=np.int64)
    assert kernel.total(edges, sums, order, kept, first, totals) == 4
    assert edges[first[:4], :3].tolist() == [[0, 1, 1], [0, 1, 2], [0, 2, 1], [1, 1, 1]]
    assert totals[:4].tolist() == [[4, 40, 400], [2, 20, 200], [5, 50, 500], [4, 40, 400]]
    assert kernel.total(edges, sums, order, np.zeros(6, dtype=np.bool_), first, totals) == 0
