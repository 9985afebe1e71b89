"""A pass finds nothing where nothing is wrong, and every kind of damage by name; from wherever it starts."""

from threading import Event, Thread

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.store.keys import watermark_field
from service.verification import live
from service.verification.archive import LOG_START, Unverifiable
from service.verification.verifier import Progress
from tests.conftest import PARTITIONS, SHARDS
from tests.service.verification.world import World, bump, figures, touched


def test_an_empty_world_verifies(world: World) -> None:
    found = world.verify()
    assert found.comparison.equal
    assert found.started_from == LOG_START
    assert figures(found)["edges_compared"] == 0


def test_what_was_folded_verifies(folded: World) -> None:
    found = folded.verify()
    assert folded.is_right()
    assert found.comparison.equal
    assert figures(found)["edges_compared"] == len(folded.outcome().statistics) > 50
    assert found.recomputation.records == 120


@pytest.mark.parametrize(("by", "kind"), [(1, "counted_twice"), (-1, "lost")])
@pytest.mark.parametrize("field", range(3))
def test_an_edge_that_is_off_by_one_is_named(folded: World, by: int, kind: str, field: int) -> None:
    name, slot = bump(folded, by, field)
    found = folded.verify()
    (difference,) = found.comparison.row_differences
    assert (difference.name, difference.slots.tolist()) == (name, [slot])
    assert difference.excess.tolist() == [[by if at == field else 0 for at in range(3)]]
    told = figures(found)
    assert {key: told[key] for key in ("edges_different", "lost", "counted_twice", "rows_missing")} == {
        "edges_different": 1,
        "lost": 0,
        "counted_twice": 0,
        "rows_missing": 0,
    } | {kind: 1}


def test_a_row_that_was_deleted_is_missing(folded: World) -> None:
    name, _ = touched(folded)[0]
    folded.store.client.delete(folded.store.keys.row(name))
    found = folded.verify()
    assert figures(found)["rows_missing"] == 1
    assert figures(found)["lost"] == sum(other == name for other, _ in touched_before(folded, name))
    assert [difference.name for difference in found.comparison.row_differences] == [name]


def touched_before(world: World, name: object) -> list[tuple[object, int]]:
    return [
        (name, slot)
        for namespace, version, cluster, slot in world.outcome().statistics
        if (namespace, version, cluster) == (name.namespace, name.version, name.cluster)  # type: ignore[attr-defined]
    ]


def test_a_row_that_nobody_folded_is_too_much(folded: World) -> None:
    name = touched(folded)[0][0]._replace(version="another")
    folded.store.client.set(folded.store.keys.row(name), b"\0" * 23 + b"\1" + b"torn")
    found = folded.verify()
    (difference,) = found.comparison.row_differences
    assert (difference.name, difference.slots.tolist()) == (name, [0, 1])
    assert figures(found)["counted_twice"] == 2


@pytest.mark.parametrize("outcome", ["folded", "duplicates", "invented"])
def test_totals_that_are_off_are_named(folded: World, outcome: str) -> None:
    before = int(folded.store.client.hget(folded.store.keys.totals(2), outcome) or 0)
    folded.store.client.hincrby(folded.store.keys.totals(2), outcome, 5)
    found = folded.verify()
    assert found.comparison.total_differences == [(2, outcome, before + 5, before)]
    assert not found.comparison.equal
    assert figures(found)["edges_different"] == 0


def test_a_watermark_that_was_moved_on_shows_as_lost(world: World) -> None:
    world.write_some(120)
    for home in range(PARTITIONS):
        world.fold_one(home, until=10)
    world.store.client.hset(world.store.keys.watermarks(1), watermark_field(world.epoch, 0), "20")
    told = figures(world.verify())
    assert told["lost"] == told["edges_different"] != 0
    world.fold()
    assert world.verify().comparison.row_differences


def test_a_watermark_that_was_moved_back_shows_as_counted_twice(folded: World) -> None:
    field = watermark_field(folded.epoch, 0)
    folded.store.client.hset(folded.store.keys.watermarks(1), field, "3")
    told = figures(folded.verify())
    assert told["counted_twice"] == told["edges_different"] != 0


def test_a_watermark_beyond_the_end_is_named(folded: World) -> None:
    folded.store.client.hset(folded.store.keys.watermarks(1), watermark_field(folded.epoch, 2), "999")
    with pytest.raises(Unverifiable, match=r"shard 1: the watermark 999 of partition 2 lies beyond the log's end \d+"):
        folded.verify()


@hypothesis_settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_shards_at_different_watermarks_are_compared_each_at_its_own(world: World, data: st.DataObject) -> None:
    world.store.client.flushdb()
    for home in range(PARTITIONS):
        world.forget(home, before=10**9)
    for name in world.verifier().archive.names():
        (world.folder / "snapshots" / name).unlink()
    begins = [world.log.bounds(home)[1] for home in range(PARTITIONS)]
    world.store.prepare({})
    for home, begin in enumerate(begins):
        world.store.begin(world.epoch, home, begin)
    world.write_some(data.draw(st.integers(1, 60)), seed=data.draw(st.integers(0, 1000)))
    kept: dict[int, dict[bytes, bytes]] = {}
    for shard in range(SHARDS):
        # A shard that is kept as it stood goes back to that later, as if its fold had been slower.
        for home in range(PARTITIONS):
            end = world.log.bounds(home)[1]
            at = min(world.store.watermarks(world.epoch, [home])[home])
            world.fold_one(home, until=min(end, at + data.draw(st.integers(0, 12))), size=data.draw(st.integers(1, 9)))
        keys = list(world.store.client.scan_iter(f"om:{{{shard}}}:*"))
        kept[shard] = {key: world.store.client.dump(key) or b"" for key in keys}
    for shard, values in kept.items():
        for key in world.store.client.scan_iter(f"om:{{{shard}}}:*"):
            world.store.client.delete(key)
        for key, value in values.items():
            world.store.client.restore(key, 0, value)
    assert world.verify().comparison.equal
    world.fold()
    assert world.verify().comparison.equal
    if touched(world):
        bump(world, 1)
        assert figures(world.verify())["edges_different"] == 1


def test_under_traffic_nothing_is_wrong_that_is_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "ROWS_IN_A_PIECE", 1)
    done = Event()

    def traffic() -> None:
        seed = 0
        while not done.is_set():
            seed += 1
            world.write_some(20, seed)
            for home in range(PARTITIONS):
                world.fold_one(home, size=2)

    world.write_some(50)
    thread = Thread(target=traffic)
    thread.start()
    try:
        moved = 0
        while moved < 5:
            found = world.verify()
            assert found.comparison.equal, found.comparison
            moved += any(found.cut.least(home) < found.cut.most(home) for home in range(PARTITIONS))
        bump(world, 1)
        found = world.verify()
        assert figures(found)["edges_different"] == 1
    finally:
        done.set()
        thread.join()


def test_rows_that_appear_while_the_others_are_read_are_compared_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write_some(30)
    for home in range(PARTITIONS):
        world.fold_one(home, until=3)
    names = live.row_names(world.store)

    def named_before(_: object) -> object:
        world.fold()
        return names

    monkeypatch.setattr(live, "row_names", named_before)
    found = world.verify()
    assert found.comparison.equal
    assert found.unread == 0
    assert figures(found)["edges_compared"] == len(world.outcome().statistics)


def test_a_redis_that_goes_back_meanwhile_is_told(folded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    folded.verify()
    names = live.row_names

    def goes_back(store: object) -> object:
        folded.store.client.hset(folded.store.keys.watermarks(1), watermark_field(folded.epoch, 0), "1")
        return names(folded.store)

    monkeypatch.setattr(live, "row_names", goes_back)
    with pytest.raises(Unverifiable, match="shard 1: Redis went back to 1 in partition 0 while it was read"):
        folded.verify()


def test_progress_is_told(folded: World) -> None:
    totals: list[int] = []
    judged: list[int] = []
    folded.verifier().verify(Progress(totals.append, judged.append))
    assert totals == [120] == [sum(judged)]
