from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.context import UNIT
from bandit.manifest import Manifest
from bandit.statistics import natural
from service import pseudonym
from service.fold.deltas import Edges, rows, spread, user_items
from service.fold.judgement import Credit
from service.pseudonym import NOBODY
from service.store.deltas import Row
from service.token import NO_EDGE, AttributionToken
from tests.service.fold.logs import MANIFEST, NOW_MS
from tests.service.tokens import ISSUED_MS, ITEMS, PSEUDONYM_KEY, USER, VERSION, a_token, opened

OTHER_VERSION, PLAIN_VERSION = "20260102T000000Z", "20260103T000000Z"
EXAMINED = {VERSION: MANIFEST.examination_table, OTHER_VERSION: [0.25], PLAIN_VERSION: []}
MANIFESTS = {
    version: MANIFEST.model_copy(update={"version": version, "examination_table": table})
    for version, table in EXAMINED.items()
}
EdgeName = tuple[str, str, int, int]


def manifest(version: str) -> Manifest:
    return MANIFESTS[version]


def credit(positions: int, reward: int | None = None, offset: int = 0, token: AttributionToken | None = None) -> Credit:
    return Credit(offset, NOW_MS + offset, opened(token or a_token()), positions, reward)


def as_numbers(items: bytes) -> list[int]:
    return np.frombuffer(items, dtype="<u4").tolist()  # type: ignore[no-any-return]


def everything(edges: Edges) -> list[Row]:
    return rows(edges, np.ones(len(edges.slot), dtype=np.bool_))


def sums(found: Iterable[Row]) -> Counter[tuple[EdgeName, int]]:
    """What each edge gains, by field, in plain integers."""
    total: Counter[tuple[EdgeName, int]] = Counter()
    for row in found:
        for slot, gains in zip(row.slots.tolist(), row.sums.tolist(), strict=True):
            for field, gain in enumerate(gains):
                total[(row.namespace, row.version, row.cluster, slot), field] += gain
    return +total


def by_hand(credited: Iterable[Credit]) -> Counter[tuple[EdgeName, int]]:
    """The same, edge by edge in Python's own integers: eq. (8) d += w², n += e·w, and eq. (9) b += w·r."""
    total: Counter[tuple[EdgeName, int]] = Counter()
    for _, _, told, positions, reward in credited:
        token = told.whole()
        for position in range(len(token.items)):
            for cluster, weight, slot in zip(
                token.clusters.tolist(), token.weights.tolist(), token.slots[position].tolist(), strict=True
            ):
                if positions >> position & 1 and slot != NO_EDGE:
                    edge = (token.namespace, token.version, cluster, slot)
                    if reward is None:
                        total[edge, 0] += weight * weight
                        table = EXAMINED[token.version]
                        total[edge, 1] += int((table[position] if position < len(table) else 1) * UNIT) * weight
                    else:
                        total[edge, 2] += weight * reward
    return +total


def test_an_impression_adds_the_squared_weights_and_the_examined_weights() -> None:
    """Weights ½, ⅜ and ⅛ of clusters 4, 1 and 6; the slots of a slate are examined with 1, ½, 1."""
    found = {row.cluster: row for row in everything(spread([credit(0b111)], manifest))}
    assert {cluster: row.slots.tolist() for cluster, row in found.items()} == {4: [0, 1, 7], 1: [5, 6], 6: [0, 2, 3]}
    gains = {cluster: natural(row.sums) for cluster, row in found.items()}
    # Edges are in the order of their slots: of cluster 6 that is the slate's third item, first, second.
    assert gains[4].d.tolist() == [1 / 4, 1 / 4, 1 / 4]
    assert gains[4].n.tolist() == [1 / 2, 1 / 4, 1 / 2]
    assert gains[1].d.tolist() == [9 / 64, 9 / 64]
    assert gains[1].n.tolist() == [3 / 8, 3 / 8]
    assert gains[6].d.tolist() == [1 / 64, 1 / 64, 1 / 64]
    assert gains[6].n.tolist() == [1 / 8, 1 / 8, 1 / 16]
    assert all(gain.b.tolist() == [0.0] * len(gain.b) for gain in gains.values())


def test_a_reward_adds_the_weighted_reward_to_its_items_edges_alone() -> None:
    (of_1, of_4, of_6) = everything(spread([credit(0b100, UNIT // 4)], manifest))
    assert [(row.namespace, row.version, row.cluster) for row in (of_1, of_4, of_6)] == [
        ("default", VERSION, 1),
        ("default", VERSION, 4),
        ("default", VERSION, 6),
    ]
    assert [row.slots.tolist() for row in (of_1, of_4, of_6)] == [[6], [7], [0]]
    assert [natural(row.sums).b.tolist() for row in (of_1, of_4, of_6)] == [[3 / 32], [1 / 8], [1 / 32]]
    for row in (of_1, of_4, of_6):
        assert row.sums[:, :2].tolist() == [[0, 0]]


def test_an_item_without_an_edge_to_a_cluster_adds_nothing_there() -> None:
    found = everything(spread([credit(0b010)], manifest))
    assert [(row.cluster, row.slots.tolist()) for row in found] == [(4, [1]), (6, [3])]


def test_a_part_of_a_slate_is_examined_at_its_own_positions() -> None:
    (of_4, _) = everything(spread([credit(0b010)], manifest))
    assert natural(of_4.sums).n.tolist() == [1 / 4]


def test_each_version_is_read_by_its_own_examination_table() -> None:
    tokens = [a_token(version=version) for version in EXAMINED]
    found = everything(spread([credit(0b001, token=token) for token in tokens], manifest))
    assert {row.version: natural(row.sums).n.tolist() for row in found if row.cluster == 4} == {
        VERSION: [1 / 2],
        OTHER_VERSION: [1 / 8],
        PLAIN_VERSION: [1 / 2],
    }


def test_each_edge_remembers_its_record() -> None:
    edges = spread([credit(0b001, offset=3), credit(0b010, UNIT, offset=5)], manifest)
    assert edges.offset.tolist() == [3, 3, 3, 5, 5]
    assert edges.times[edges.credit].tolist() == [NOW_MS + 3] * 3 + [NOW_MS + 5] * 2


@pytest.mark.parametrize(
    "credited", [[], [credit(0b111, token=a_token(slots=np.full((3, 3), NO_EDGE, dtype=np.int32)))]]
)
def test_where_no_edge_is_touched_there_are_no_rows(credited: Sequence[Credit]) -> None:
    assert everything(spread(credited, manifest)) == []


@st.composite
def credits_of_many(draw: st.DrawFn) -> list[Credit]:
    """Credits that fall on few edges of several namespaces and versions, so that they meet."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    found = []
    for offset in range(draw(st.integers(0, 8))):
        n, k = int(rng.integers(1, 5)), int(rng.integers(1, 4))
        token = a_token(
            namespace=("a", "b")[rng.integers(2)],
            version=list(EXAMINED)[rng.integers(3)],
            clusters=rng.choice(4, size=k, replace=False).astype(np.uint32),
            weights=rng.integers(1, UNIT + 1, size=k),
            items=np.arange(n, dtype=np.uint32),
            slots=np.stack([rng.permutation(6)[:n] - 1 for _ in range(k)], axis=1).astype(np.int32),
        )
        reward = None if rng.random() < 0.5 else int(rng.integers(0, UNIT + 1))
        found.append(credit(int(rng.integers(1, 1 << n)), reward, offset, token))
    return found


@given(credits_of_many())
def test_rows_are_the_plain_sums_of_equations_8_and_9(credited: list[Credit]) -> None:
    found = everything(spread(credited, manifest))
    assert sums(found) == by_hand(credited)
    for row in found:
        assert row.sums.dtype == np.int64
        assert (np.diff(row.slots) > 0).all()
    names = [(row.namespace, row.version, row.cluster) for row in found]
    assert len(set(names)) == len(names)


@given(credits_of_many(), st.data())
def test_any_order_and_any_batching_sums_to_the_same_bits(credited: list[Credit], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(credited))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(credited)), max_size=4)))
    batches = [shuffled[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(credited)], strict=True)]
    parts = [row for batch in batches for row in everything(spread(batch, manifest))]
    assert sums(parts) == sums(everything(spread(credited, manifest)))


@given(credits_of_many(), st.integers(1, 3), st.integers(0, 8))
def test_shards_and_halves_of_a_batch_add_up_to_the_whole(credited: list[Credit], shards: int, half: int) -> None:
    edges = spread(credited, manifest)
    parts = [
        row
        for shard in range(shards)
        for before in (True, False)
        for row in rows(edges, (edges.cluster % shards == shard) & ((edges.offset < half) == before))
    ]
    assert sums(parts) == sums(everything(edges))


def test_the_largest_sums_are_exact() -> None:
    """Thousands of whole weights on one edge, far past what a 32-bit integer holds."""
    token = a_token(
        clusters=np.array([0], dtype=np.uint32),
        weights=np.array([UNIT]),
        items=np.zeros(200, dtype=np.uint32),
        slots=np.zeros((200, 1), dtype=np.int32),
    )
    credited = [credit((1 << 200) - 1, reward, token=token) for reward in (None, UNIT) for _ in range(50)]
    (row,) = everything(spread(credited, manifest))
    assert row.slots.tolist() == [0]
    assert row.sums.tolist() == [[10_000 << 30, 10_000 * UNIT * UNIT - 50 * UNIT * UNIT // 2, 10_000 << 30]]


def test_users_keep_what_they_saw_and_what_they_answered() -> None:
    saw, answered = user_items([credit(0b101, offset=3), credit(0b010, UNIT, offset=4)])
    names = pseudonym.of_items(ITEMS, PSEUDONYM_KEY).tolist()
    assert (saw.offset, saw.user, saw.rewarded, saw.issued_ms) == (3, USER, False, ISSUED_MS)
    assert as_numbers(saw.items) == [names[0], names[2]]
    assert (answered.offset, answered.user, answered.rewarded) == (4, USER, True)
    assert as_numbers(answered.items) == [names[1]]


def test_a_whole_slate_was_seen_in_its_order() -> None:
    (saw,) = user_items([credit(0b111)])
    assert as_numbers(saw.items) == a_token().items.tolist()


def test_of_nobody_and_of_rewards_of_nothing_users_keep_nothing() -> None:
    assert user_items([credit(0b111, token=a_token(user=NOBODY)), credit(0b001, 0)]) == []
