"""Where a pass starts: from the newest snapshot that fits, else from the log's start, else not at all."""

import numpy as np
import pytest

from service.store.keys import watermark_field
from service.verification.archive import KEPT, LOG_START, Archive, Unverifiable
from service.verification.snapshot import Facts
from service.verification.state import Beginning, State
from tests.conftest import PARTITIONS, SHARDS
from tests.service.fold.logs import impression
from tests.service.verification.world import World, bump, figures


def test_the_next_pass_starts_from_the_snapshot(folded: World) -> None:
    first = folded.verify()
    folded.write_some(40, seed=1)
    folded.fold()
    second = folded.verify()
    assert second.started_from == first.snapshot != second.snapshot
    assert second.comparison.equal
    assert second.recomputation.records == 40
    third = folded.verify()
    assert (third.started_from, third.snapshot) == (second.snapshot, second.snapshot)
    assert third.recomputation.records == 0
    bump(folded, 1)
    assert figures(folded.verify())["counted_twice"] == 1


def test_a_snapshot_carries_the_window_past_the_logs_start(world: World) -> None:
    slate = world.slate(1, home=0)
    world.say(slate, 0, impression(slate))
    world.fold()
    world.verify()
    for _ in range(world.window - 1):
        world.say(slate, 0, impression(slate))
    world.fold()
    world.forget(0, before=1)
    found = world.verify()
    assert found.comparison.equal
    assert found.started_from != LOG_START
    assert world.store.totals() == {"folded": len(slate.items), "duplicates": (world.window - 1) * len(slate.items)}


def test_a_log_whose_start_has_moved_past_the_snapshots_is_told(folded: World) -> None:
    folded.verify()
    folded.write_some(40, seed=1)
    folded.fold()
    end = folded.log.bounds(0)[1]
    folded.forget(0, before=end - 1)
    with pytest.raises(Unverifiable) as told:
        folded.verify()
    assert f"log start: partition 0: the log's start has moved to {end - 1}, past its position 0" in str(told.value)
    assert "om@" in str(told.value)
    assert "--replay-from earliest" in str(told.value)


def test_without_snapshots_the_log_is_read_from_its_start(folded: World) -> None:
    for name in [folded.verify().snapshot]:
        (folded.folder / "snapshots" / name).unlink()
    assert folded.verify().started_from == LOG_START


def test_a_partition_that_began_later_is_counted_from_there(folded: World) -> None:
    folded.store.client.flushdb()
    folded.store.prepare({})
    begins = [7, 0, 11, 3]
    for home, begin in enumerate(begins):
        folded.forget(home, before=begin)
        folded.store.begin(folded.epoch, home, begin)
    folded.fold()
    found = folded.verify()
    assert found.comparison.equal
    assert folded.is_right()
    assert found.recomputation.records == 120 - sum(begins)
    bump(folded, 1)
    assert figures(folded.verify())["counted_twice"] == 1


def test_a_snapshot_from_before_a_new_beginning_does_not_fit(folded: World) -> None:
    folded.verify()
    folded.store.client.flushdb()
    folded.store.prepare({})
    folded.forget(0, before=9)
    folded.store.begin(folded.epoch, 0, 9)
    folded.fold()
    found = folded.verify()
    assert found.started_from == LOG_START
    assert found.comparison.equal


@pytest.mark.parametrize("shard", [0, 2])
def test_a_shard_that_began_alone_is_counted_from_there(folded: World, shard: int) -> None:
    folded.store.client.flushdb()
    fields = watermark_field(folded.epoch, 0)
    folded.store.prepare({})
    folded.store.client.fcall("om_begin", 1, folded.store.keys.watermarks(shard), fields, f"{fields}:begin", "9")
    folded.fold()
    assert not folded.is_right()
    assert folded.verify().comparison.equal


# A log that was made anew


def test_a_log_that_was_made_anew_goes_on_from_the_last_ones_end(folded: World) -> None:
    last = folded.verify().snapshot
    folded.make_log_anew()
    folded.write_some(60, seed=5)
    folded.fold()
    found = folded.verify()
    assert found.started_from == last
    assert found.comparison.equal
    assert found.recomputation.records == 60
    assert folded.verify().started_from == found.snapshot
    bump(folded, -1)
    assert figures(folded.verify())["lost"] == 1


def test_a_log_made_anew_without_a_snapshot_of_the_last_ones_end_is_told(folded: World) -> None:
    folded.verify()
    folded.write_some(10, seed=3)
    folded.fold()
    folded.make_log_anew()
    folded.write_some(10, seed=4)
    folded.fold()
    with pytest.raises(Unverifiable, match=r"log start: statistics of an earlier log epoch are not in it; .* more was"):
        folded.verify()


def test_a_log_made_anew_before_all_was_folded_is_told(folded: World) -> None:
    folded.store.client.hset(folded.store.keys.watermarks(1), watermark_field(folded.epoch, 2), "2")
    folded.make_log_anew()
    with pytest.raises(Unverifiable, match="the shards were left at different watermarks of an earlier log epoch"):
        folded.verify()


def test_a_version_whose_bundle_is_gone_is_needed_only_by_the_log(folded: World) -> None:
    folded.verify()
    folded.bundles.clear()
    assert folded.verify().comparison.equal
    for name in folded.verifier().archive.names():
        (folded.folder / "snapshots" / name).unlink()
    with pytest.raises(KeyError):
        folded.verify()


# The files


def snapshots(world: World) -> list[str]:
    return sorted(path.name for path in (world.folder / "snapshots").iterdir())


@pytest.mark.parametrize("damage", ["altered", "cut off", "empty", "foreign"])
def test_a_damaged_snapshot_is_refused_by_name_and_an_older_one_taken(
    folded: World, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    older = folded.verify().snapshot
    folded.write_some(20, seed=1)
    folded.fold()
    newer = folded.verify().snapshot
    path = folded.folder / "snapshots" / newer
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    other = Archive(str(folded.folder / "elsewhere"), Facts("om", SHARDS, PARTITIONS, 7), b"key")
    foreign = (folded.folder / "elsewhere" / other.keep(State.at(a_beginning()))).read_bytes()
    path.write_bytes(
        {"altered": bytes(content), "cut off": bytes(content[:-9]), "empty": b"", "foreign": foreign}[damage]
    )
    found = folded.verify()
    assert found.started_from == older
    assert found.recomputation.records == 20
    assert found.comparison.equal
    told = capsys.readouterr()
    assert "snapshot refused" in told.out + told.err
    assert newer in told.out + told.err


def a_beginning() -> Beginning:
    return Beginning(b"e" * 16, np.zeros((PARTITIONS, SHARDS), dtype=np.int64), {})


def test_the_newest_few_are_kept(folded: World) -> None:
    kept = []
    for seed in range(KEPT + 2):
        folded.write_some(5, seed)
        folded.fold()
        kept.append(folded.verify().snapshot)
    assert snapshots(folded) == kept[-KEPT:]


def test_a_crash_leaves_no_half_file(folded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = folded.verify().snapshot
    folded.write_some(5, seed=1)
    folded.fold()
    archive = folded.verifier().archive

    def crashes(source: str, target: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(archive._fs), "mv", lambda self, source, target: crashes(source, target))
        with pytest.raises(KeyboardInterrupt):
            folded.verify()
    assert len(snapshots(folded)) == 2
    assert folded.verifier().archive.names() == [whole]
    assert folded.verify().started_from == whole


def test_prefixes_do_not_mix(folded: World) -> None:
    mine = folded.verify().snapshot
    other = Archive(str(folded.folder / "snapshots"), Facts("o", SHARDS, PARTITIONS, folded.window), b"key")
    assert other.names() == []
    theirs = other.keep(State.at(a_beginning()))
    assert folded.verifier().archive.names() == [mine]
    assert other.names() == [theirs]


def test_any_filesystem_will_do(folded: World) -> None:
    folded.settings = folded.settings.model_copy(update={"snapshots": "memory://verification"})
    first = folded.verify()
    assert folded.verify().started_from == first.snapshot
