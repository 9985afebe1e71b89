"""A replay is the log folded once more: into a prefix of its own, from where it is asked for, up to the log's ends."""

import json
from typing import Any

import pytest

from service.bundles import Bundles
from service.feedback_log.base import DeadLetter
from service.store.keys import Keys
from service.store.redis import Store
from service.verification import replay_process
from service.verification.origin import NoOrigin, Origin
from service.verification.process import Stopped
from service.verification.replay import Replay, Replayed, ReplayRefused
from service.verification.verifier import Progress
from tests.conftest import PARTITIONS, SHARDS
from tests.service.single_pass import statistics_in
from tests.service.verification.world import World, bump


def replay(world: World, prefix: str = "om.replay", progress: Progress | None = None) -> Replay:
    into = Store(world.store.client, Keys(prefix, SHARDS))
    manifest = world.bundles.__getitem__
    return Replay(world.settings, world.log, world.store, into, manifest, progress or Progress())


def run(world: World, origin: str = "earliest", *, anew: bool = False, prefix: str = "om.replay") -> Replayed:
    return replay(world, prefix).run(Origin.parse(origin), anew=anew)


def held(world: World, prefix: str = "om.replay") -> dict[str, Any]:
    """All that a prefix holds but for its change streams, which are told in another rhythm."""
    found: dict[str, Any] = {}
    for key in world.store.client.scan_iter(f"{prefix}:*"):
        name = key.decode().removeprefix(prefix)
        kind = world.store.client.type(key)
        if kind == b"hash":
            found[name] = {
                field: value for field, value in world.store.client.hgetall(key).items() if field != b"sequence"
            }
        elif kind == b"zset":
            found[name] = world.store.client.zrange(key, 0, -1, withscores=True)
        elif kind == b"string" and not name.endswith(":frozen"):
            found[name] = world.store.client.get(key)
    return found


def test_a_replay_holds_what_is_live(folded: World) -> None:
    before = held(folded, "om")
    done = run(folded)
    assert held(folded) == held(folded, "om") == before
    assert done.records == 120
    assert done.begins == [0] * PARTITIONS
    assert done.ends == [folded.log.bounds(home)[1] for home in range(PARTITIONS)]
    assert done.comparison.equal
    assert done.comparison.edges == len(folded.outcome().statistics)
    assert (done.rows_not_compared, done.why_not) == (0, "")


def test_what_differs_from_the_live_statistics_is_found(folded: World) -> None:
    name, slot = bump(folded, 1)
    folded.store.client.hincrby(folded.store.keys.totals(0), "folded", 1)
    done = run(folded)
    (difference,) = done.comparison.row_differences
    assert (difference.name, difference.slots.tolist()) == (name, [slot])
    assert len(done.comparison.total_differences) == 1


def test_the_live_prefix_is_refused(folded: World) -> None:
    before = held(folded, "om")
    with pytest.raises(ReplayRefused, match="om is the live prefix: replay into another"):
        run(folded, prefix="om", anew=True)
    assert held(folded, "om") == before


def test_a_replay_that_was_stopped_goes_on(folded: World) -> None:
    def stop(records: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        replay(folded, progress=Progress(judged=stop)).run(Origin())
    stopped = held(folded)
    assert stopped != held(folded, "om")
    done = run(folded)
    assert 0 < done.records < 120
    assert held(folded) == held(folded, "om")
    folded.write_some(20, seed=1)
    assert run(folded).records == 20
    assert run(folded).records == 0


def test_an_earlier_replay_is_removed_on_request(folded: World) -> None:
    run(folded)
    folded.store.client.set("om.replay:{0}:row:default:gone:0:0", b"\1" * 24)
    folded.store.client.set("om.replayed:else", b"stays")
    assert not run(folded).comparison.equal
    done = run(folded, anew=True)
    assert done.records == 120
    assert done.comparison.equal
    assert held(folded) == held(folded, "om")
    assert folded.store.client.get("om.replayed:else") == b"stays"


def test_it_begins_where_it_is_told_to_and_can_be_verified(folded: World) -> None:
    done = run(folded, "10")
    assert done.begins == [10] * PARTITIONS
    assert done.records == 120 - 10 * PARTITIONS
    assert done.comparison.rows == 0
    assert done.why_not == "what is live began elsewhere, so it should differ"
    found = folded.verifier("om.replay").verify()
    assert found.comparison.equal
    assert found.comparison.edges == len(statistics_in(folded.store.client, "om.replay")) > 0
    with pytest.raises(
        ReplayRefused, match="holds a replay that begins at 10 in partition 0, not where it is asked for"
    ):
        run(folded, "11")
    run(folded, "10")
    run(folded)
    assert run(folded, "11", anew=True).begins == [11] * PARTITIONS


def test_a_time_is_an_offset_in_each_partition(folded: World) -> None:
    records = {home: folded.log.read(home, 0, 1000) for home in range(PARTITIONS)}
    now_ms = records[0][12].append_ms
    done = run(folded, str(now_ms))
    assert done.begins == [sum(record.append_ms < now_ms for record in records[home]) for home in range(PARTITIONS)]


def test_what_the_log_no_longer_holds_cannot_be_replayed(folded: World) -> None:
    folded.forget(0, before=5)
    with pytest.raises(NoOrigin, match="partition 0: the log begins at 5"):
        run(folded, "4")
    assert run(folded).begins == [5, 0, 0, 0]


def test_statistics_that_are_gone_come_back(folded: World) -> None:
    before = held(folded, "om")
    folded.store.client.flushdb()
    done = run(folded)
    assert done.why_not == "nothing is live"
    assert held(folded) == before


def test_dead_letters_are_kept_once_but_never_lost(folded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = folded.log.dead_letters()
    assert before
    folded.write(0, 0, b"nobody's", b"senseless")
    end = folded.log.bounds(0)[1]
    kept: list[DeadLetter] = []
    monkeypatch.setattr(folded.log, "dead_letter", kept.extend)
    run(folded)
    assert [(letter.partition, letter.offset) for letter in kept] == [(0, end - 1)]


def test_a_live_fold_that_is_behind_or_ahead_is_told_apart(world: World) -> None:
    world.write_some(60)
    for home in range(PARTITIONS):
        world.fold_one(home, until=4)
    behind = run(world)
    assert behind.rows_not_compared > 0
    assert behind.why_not == "watermarks of the others moved on"
    world.fold()
    assert run(world).comparison.equal


def test_a_replay_of_another_log_is_refused(folded: World) -> None:
    run(folded)
    folded.make_log_anew()
    folded.write_some(20, seed=2)
    with pytest.raises(ReplayRefused, match=r"holds statistics of an earlier log: remove them \(--anew\)"):
        run(folded)
    assert run(folded, anew=True).why_not == "what is live rests on logs of earlier epochs as well"


def test_the_bundle_that_is_active_stays_so(folded: World) -> None:
    folded.store.client.hset(folded.store.keys.active(), "1", "a version")
    run(folded)
    assert folded.store.client.hgetall("om.replay:active") == {b"1": b"a version"}


def test_the_process_says_what_came_of_it(
    folded: World, valkey: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_process, "end_on_signals", lambda stopping: None)
    monkeypatch.setattr(Bundles, "manifest", lambda self, version: folded.bundles[version])
    assert replay_process.run(folded.settings, valkey, origin="earliest", prefix=None, anew=False) == 0
    *people, machines = capsys.readouterr().out.splitlines()
    figures = json.loads(machines)
    assert (figures["into"], figures["from"], figures["records"]) == ("om.replay", "earliest", 120)
    assert (figures["edges_different"], figures["rows_not_compared"], figures["why_not"]) == (0, 0, "")
    assert "rows equal the replay." in "\n".join(people)
    assert people[-1] == "To make it live: end all processes and start them with KEY_PREFIX=om.replay."
    bump(folded, 1)
    assert replay_process.run(folded.settings, valkey, origin="earliest", prefix="om2", anew=True) == 1
