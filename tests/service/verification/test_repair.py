"""What differs is set right, only while the watermarks stand still, and replicas are told."""

from collections.abc import Callable
from threading import Event, Thread

import numpy as np
import pytest
import redis

from bandit.statistics import from_row
from service.store.keys import watermark_field
from service.verification import repair as repairs
from service.verification.repair import Repaired, repair
from tests.conftest import PARTITIONS, SHARDS
from tests.service.verification.world import World, bump, touched


def set_right(world: World, call_edges: int = 8192) -> Repaired:
    verifier = world.verifier()
    return repair(verifier, verifier.verify(), call_edges)


def add_one(world: World) -> None:
    bump(world, 1)


def lose_one(world: World) -> None:
    bump(world, -1, field=0)


def delete_a_row(world: World) -> None:
    world.store.client.delete(world.store.keys.row(touched(world)[0][0]))


def invent_a_row(world: World) -> None:
    world.store.client.set(world.store.keys.row(touched(world)[0][0]._replace(version="another")), b"\7" * 48)


def delete_all_rows(world: World) -> None:
    for name in {name for name, _ in touched(world)}:
        world.store.client.delete(world.store.keys.row(name))


def miscount(world: World) -> None:
    world.store.client.hincrby(world.store.keys.totals(1), "folded", -3)
    world.store.client.hset(world.store.keys.totals(3), "invented", 3)


def move_a_watermark_on(world: World) -> None:
    world.write_some(40, seed=9)
    end = world.log.bounds(0)[1]
    world.store.client.hset(world.store.keys.watermarks(2), watermark_field(world.epoch, 0), end)


def move_a_watermark_back(world: World) -> None:
    world.store.client.hset(world.store.keys.watermarks(2), watermark_field(world.epoch, 0), 4)


DAMAGES = [
    add_one,
    lose_one,
    delete_a_row,
    invent_a_row,
    delete_all_rows,
    miscount,
    move_a_watermark_on,
    move_a_watermark_back,
]


@pytest.mark.parametrize("call_edges", [1, 5, 8192])
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_set_right(folded: World, damage: Callable[[World], None], call_edges: int) -> None:
    damage(folded)
    assert not folded.verify().comparison.equal
    done = set_right(folded, call_edges)
    assert done.failed == {}
    assert done.edges + done.totals > 0
    assert folded.verify().comparison.equal
    folded.fold()
    assert folded.is_right()
    assert set_right(folded) == Repaired(0, 0, {})


def test_looking_touches_nothing(folded: World) -> None:
    bump(folded, 1)
    folded.verifier().store.prepare({})
    keys = sorted(folded.store.client.scan_iter("*"))
    before = [folded.store.client.dump(key) for key in keys]
    folded.verify()
    assert sorted(folded.store.client.scan_iter("*")) == keys
    assert [folded.store.client.dump(key) for key in keys] == before


def test_replicas_are_told_the_absolute_values(folded: World) -> None:
    name, slot = bump(folded, 1)
    shard = folded.store.keys.shard_of_cluster(name.cluster)
    tail = folded.store.tail(shard)
    set_right(folded)
    (change,) = folded.store.changes({shard: tail.id}, 1)[shard]
    assert change.sequence == tail.sequence + 1
    (row,) = change.rows
    assert (row.name, row.slots.tolist()) == (name, [slot])
    held = from_row(folded.store.rows([name])[0], slot + 1)[slot]
    assert row.sums.tolist() == [held.tolist()]


def test_under_traffic_it_is_set_right(world: World) -> None:
    done = Event()

    def traffic() -> None:
        seed = 0
        while not done.is_set():
            seed += 1
            world.write_some(3, seed)
            world.fold()

    world.write_some(120)
    world.fold()
    thread = Thread(target=traffic)
    thread.start()
    try:
        for damage in (add_one, miscount, delete_a_row, lose_one):
            damage(world)
            assert set_right(world).failed == {}
            assert world.verify().comparison.equal
    finally:
        done.set()
        thread.join()
    world.fold()
    assert world.is_right()


def test_a_shard_that_never_stands_still_is_named(folded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    name, _ = bump(folded, 1)
    monkeypatch.setattr(repairs, "TRIES", 3)
    found = folded.verify()
    values = repairs._values

    def moves_on(*arguments: object) -> object:
        answer = values(*arguments)  # type: ignore[arg-type]
        folded.write_some(20, int(np.random.default_rng().integers(10**6)))
        folded.fold()
        return answer

    monkeypatch.setattr(repairs, "_values", moves_on)
    done = repair(folded.verifier(), found, 8192)
    shard = name.cluster % SHARDS
    assert done.failed == {
        shard: "tried 3 times, its watermarks moved on each time: try again with less traffic, or"
        " stop the fold meanwhile"
    }
    assert not folded.verify().comparison.equal


def test_a_shard_that_went_back_is_named(folded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    name, _ = bump(folded, 1)
    monkeypatch.setattr(repairs, "TRIES", 2)
    found = folded.verify()
    shard = name.cluster % SHARDS
    folded.store.client.hset(folded.store.keys.watermarks(shard), watermark_field(folded.epoch, 1), 1)
    done = repair(folded.verifier(), found, 8192)
    assert list(done.failed) == [shard]
    assert "lie behind what was compared" in done.failed[shard]


# The function


def test_its_arguments_are_checked_before_anything_is_written(folded: World) -> None:
    keys = folded.store.keys
    name = touched(folded)[0][0]
    shard = name.cluster % SHARDS
    fields = [part for pair in folded.store.client.hgetall(keys.watermarks(shard)).items() for part in pair]
    names = [keys.watermarks(shard), keys.changes(shard), keys.totals(shard), keys.row(name)]
    edge, other = b"\0\0\0\1" + b"\0" * 24, b"\0\0\0\0" + b"\0" * 24
    good = [2000, len(fields) // 2, *fields, 1, "folded", 3, edge]
    before = {key: folded.store.client.dump(key) for key in names}
    for wrong in (
        [],
        good[:-1],
        [*good, edge],
        [*good[:-1], b""],
        [*good[:-1], edge[:-1]],
        [*good[:-1], edge + other],
        [*good[:-1], edge + edge],
        [*good[:-1], b"\7\0\0\1" + b"\0" * 24],
        [*good[:-2], "-1", edge],
        [*good[:-2], "1.5", edge],
        ["x", *good[1:]],
        [2000, 10**6, *good[2:]],
    ):
        with pytest.raises(redis.ResponseError, match="OMARGS"):
            folded.store.client.fcall("om_repair", 4, *names, *wrong)
    with pytest.raises(redis.ResponseError, match="OMARGS"):
        folded.store.client.fcall("om_repair", 4, *names[:3], f"om:{{{shard}}}:changes", *good)
    with pytest.raises(redis.ResponseError, match="OMARGS"):
        folded.store.client.fcall("om_repair", 2, *names[:2], *good)
    for moved in ([*fields[:-1], b"77"], [*fields[:-2]], [*fields, b"another", b"1"]):
        arguments = [2000, len(moved) // 2, *moved, 1, "folded", 3, edge]
        assert folded.store.client.fcall("om_repair", 4, *names, *arguments) == 0
    assert {key: folded.store.client.dump(key) for key in names} == before
    assert folded.store.client.fcall("om_repair", 4, *names, *good) == 1
    assert folded.store.client.hget(keys.totals(shard), "folded") == b"3"
    assert PARTITIONS == 4
