"""The fold's process: all partitions, whatever dies around it."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from service.fold import process as module
from service.fold.process import FoldProcess
from service.settings import Settings
from service.store.keys import Keys, watermark_field
from service.store.redis import Store, connect
from tests.conftest import PARTITIONS, SHARDS
from tests.service.fold.bundles import publish
from tests.service.fold.exactly_once import assert_exactly_once, behind, finish, step_until
from tests.service.fold.logs import impression, partition, reward
from tests.service.fold.moody_log import Moody, fill, slates, write
from tests.service.fold.slates import ITEMS
from tests.service.servers import PrivateValkey, until
from tests.service.single_pass import statistics_in
from tests.service.tokens import KEYS, PSEUDONYM_KEY

WINDOW = 50


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.0)
    monkeypatch.setattr(module, "CHECK_EVERY_S", 0.0)


@pytest.fixture
def ours(settings: Callable[..., Settings]) -> Settings:
    """Settings whose keys sign the slates of `a_slate`; a bundle with the manifest of these tests is published."""
    ours = settings(
        token_keys={key_id: key.decode() for key_id, key in KEYS.items()},
        pseudonym_key=PSEUDONYM_KEY.decode(),
        shards=SHARDS,
        partitions=PARTITIONS,
        window_records=WINDOW,
        batch_records=7,
        bundle_wait_s=0,
    )
    publish(ours.bundles)
    return ours


@pytest.fixture
def log(ours: Settings) -> Iterator[Moody]:
    log = Moody(ours)
    yield log
    log.close()


def told(lines: Sequence[Mapping[str, Any]], event: str) -> list[Mapping[str, Any]]:
    return [line for line in lines if line["event"] == event]


def metric(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_all_partitions_are_folded_once(store: Store, log: Moody, ours: Settings) -> None:
    fill(log)
    process = FoldProcess(ours, log, store)
    finish(process, store, log)
    assert_exactly_once(store, log, ours)

    assert store.totals()["duplicates"] > 0
    assert store.totals()["dead_lettered"] == 8
    process.step()
    for number in range(PARTITIONS):
        assert metric("om_fold_lag_records", partition=str(number)) == 0
    for outcome, count in store.totals().items():
        assert metric("om_events_folded", outcome=outcome) == count


@examples(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_sequence_any_restart_and_any_second_fold_ends_in_the_same_sums(
    data: st.DataObject, store: Store, log: Moody, ours: Settings
) -> None:
    made = slates(log, 8)
    processes = [FoldProcess(ours, log, store) for _ in range(2)]
    for slate in data.draw(st.lists(st.sampled_from(made), max_size=20)):
        item = ITEMS[data.draw(st.integers(0, len(slate.items) - 1))]
        kinds: list[object] = [impression(slate), impression(slate, items=[item]), reward(slate, item_id=item), "odd"]
        write(log, slate, *data.draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=3)))
        what, which = data.draw(st.sampled_from(["", "step", "step", "restart", "empty"])), data.draw(st.integers(0, 1))
        if what == "step":
            processes[which].step()
        elif what == "restart":
            processes[which] = FoldProcess(ours, log, store)
        elif what == "empty":
            store.client.flushall()
    for process in processes:
        finish(process, store, log)
    assert_exactly_once(store, log, ours)


@pytest.mark.parametrize("times", [1, 3])
def test_nothing_is_lost_while_dead_letters_cannot_be_kept(
    store: Store, log: Moody, ours: Settings, times: int
) -> None:
    fill(log)
    log.letters_fail = times
    finish(FoldProcess(ours, log, store), store, log)
    assert log.letters_fail == 0
    assert_exactly_once(store, log, ours)


@pytest.mark.parametrize("times", [1, 3])
def test_nothing_is_lost_while_the_log_cannot_be_read(store: Store, log: Moody, ours: Settings, times: int) -> None:
    process = FoldProcess(ours, log, store)
    process.step()
    fill(log)
    log.reads_fail = times
    finish(process, store, log)
    assert log.reads_fail == 0
    assert_exactly_once(store, log, ours)


def test_a_log_that_cannot_be_read_at_the_start_is_waited_for(store: Store, log: Moody, ours: Settings) -> None:
    fill(log)
    finish(FoldProcess(ours, log, store), store, log)
    log.reads_fail = 2  # filling the window
    process = FoldProcess(ours, log, store)
    for slate in slates(log, PARTITIONS):
        write(log, slate, impression(slate))
    finish(process, store, log)
    assert log.reads_fail == 0
    assert_exactly_once(store, log, ours)


def test_a_redis_that_forgot_while_nothing_came_is_filled_again(store: Store, log: Moody, ours: Settings) -> None:
    fill(log)
    process = FoldProcess(ours, log, store)
    finish(process, store, log)
    store.client.flushall()
    process.step()
    assert behind(store, log)
    finish(process, store, log)
    assert_exactly_once(store, log, ours)


@pytest.mark.parametrize("forgets", [False, True])
def test_a_redis_that_dies_is_waited_for_whatever_it_forgets(
    log: Moody, ours: Settings, tmp_path: Path, forgets: bool
) -> None:
    with PrivateValkey(tmp_path / "mortal") as server:
        store = Store(connect(server.url), Keys(ours.key_prefix, SHARDS))
        store.prepare(ours.frozen_facts)
        made = fill(log)
        process = FoldProcess(ours, log, store)
        finish(process, store, log)

        server.kill()
        if forgets:
            shutil.rmtree(server.folder / "appendonlydir")
        write(log, made[0], reward(made[0]))
        process.step()
        server.start()
        step_until(process, lambda: bool(store.client.exists(store.keys.frozen())))
        finish(process, store, log)
        assert_exactly_once(store, log, ours)
        store.client.close()


def test_while_redis_is_away_the_log_is_polled_and_nothing_is_taken(log: Moody, ours: Settings, tmp_path: Path) -> None:
    """So a member stays in its group for as long as it takes, and its memory does not grow."""
    with PrivateValkey(tmp_path / "mortal") as server:
        store = Store(connect(server.url), Keys(ours.key_prefix, SHARDS))
        store.prepare(ours.frozen_facts)
        fill(log, 8)
        process = FoldProcess(ours, log, store)
        finish(process, store, log)
        server.kill()
        fill(log)
        with capture_logs() as lines:
            step_until(process, lambda: bool(told(lines, "redis is away")))
            polls, taken = log.subscription.polls, log.subscription.taken
            for _ in range(20):
                process.step()
            assert log.subscription.polls == polls + 20
            assert log.subscription.taken == taken
            server.start()
            finish(process, store, log)
        assert_exactly_once(store, log, ours)
        assert len(told(lines, "redis is away")) == len(told(lines, "redis is back")) == 1
        store.client.close()


def test_a_fold_that_is_told_to_stop_does_not_wait_for_redis(log: Moody, ours: Settings, tmp_path: Path) -> None:
    with PrivateValkey(tmp_path / "mortal") as server:
        store = Store(connect(server.url), Keys(ours.key_prefix, SHARDS))
        store.prepare(ours.frozen_facts)
        process = FoldProcess(ours, log, store)
        process.step()
        server.kill()
        runs = Thread(target=process.run, daemon=True)
        runs.start()
        time.sleep(0.2)
        process.stop()
        runs.join(20)
        assert not runs.is_alive()


def test_running_ends_when_told(store: Store, log: Moody, ours: Settings) -> None:
    process = FoldProcess(ours, log, store)
    runs = Thread(target=process.run, daemon=True)
    runs.start()
    fill(log, 8)
    until(lambda: not behind(store, log))
    process.stop()
    runs.join(20)
    assert not runs.is_alive()
    assert_exactly_once(store, log, ours)


def test_a_partition_whose_watermark_lies_beyond_the_end_is_stopped_alone(
    store: Store, log: Moody, ours: Settings
) -> None:
    fill(log)
    store.client.hset(store.keys.watermarks(1), watermark_field(log.epoch(), 2), "1000")
    process = FoldProcess(ours, log, store)
    step_until(process, lambda: behind(store, log) == [2])
    assert metric("om_fold_stopped", partition="2") == 1
    assert metric("om_fold_stopped", partition="1") in (0, None)
    process.step()
    assert store.watermarks(log.epoch(), [2])[2] == [0, 1000, 0, 0]


def test_what_redis_forgot_is_told_with_the_offsets_it_went_back(store: Store, log: Moody, ours: Settings) -> None:
    made = fill(log)
    process = FoldProcess(ours, log, store)
    finish(process, store, log)
    ends = log.ends()
    store.client.flushall()
    with capture_logs() as lines:
        finish(process, store, log)
        write(log, made[0], reward(made[0]))
        finish(process, store, log)
    assert {line["partition"]: line["offsets"] for line in told(lines, "rolled back")} == ends
    assert len(told(lines, "rolled back")) == PARTITIONS
    assert {line["log_level"] for line in told(lines, "rolled back")} == {"warning"}
    assert_exactly_once(store, log, ours)


def test_what_was_judged_after_a_batch_that_failed_is_void(store: Store, log: Moody, ours: Settings) -> None:
    """Redis forgets while batches come one on another's heels: the one in the air fails, and the next is judged."""
    fill(log, 80)
    process = FoldProcess(ours, log, store)
    step_until(process, lambda: process.folded > 0)
    for _ in range(4):
        store.client.flushall()
        store.prepare({})
        process.step()
        process.step()
    finish(process, store, log)
    assert_exactly_once(store, log, ours)


def test_another_folds_progress_fences_this_one_and_is_told(store: Store, log: Moody, ours: Settings) -> None:
    made = fill(log, 8)
    zombie, other = FoldProcess(ours, log, store), FoldProcess(ours, log, store)
    for process in (zombie, other):
        finish(process, store, log)
        step_until(process, lambda process=process: process.folded == 16)  # type: ignore[misc]
    write(log, made[0], reward(made[0]))
    finish(other, store, log)
    with capture_logs() as lines:
        step_until(zombie, lambda: zombie.folded == 17)
    end = log.ends()[0]
    assert [(line["partition"], line["shard"], line["expected"], line["found"]) for line in told(lines, "fenced")] == [
        (0, shard, end - 1, end) for shard in range(SHARDS)
    ]
    assert {line["log_level"] for line in told(lines, "fenced")} == {"warning"}
    assert_exactly_once(store, log, ours)


def test_records_that_are_left_out_are_noticed_and_read_again(store: Store, log: Moody, ours: Settings) -> None:
    process = FoldProcess(ours, log, store)
    step_until(process, lambda: log.subscription.polls > PARTITIONS)
    log.subscription.left_out = 3
    with capture_logs() as lines:
        fill(log)
        finish(process, store, log)
    assert log.subscription.left_out == 0
    assert len(told(lines, "records were left out, reading again")) == 1
    assert_exactly_once(store, log, ours)


def test_a_log_made_anew_stops_everything(store: Store, log: Moody, ours: Settings) -> None:
    process = FoldProcess(ours, log, store)
    process.step()
    log.made_anew = True
    process.step()
    made = fill(log, 8)
    log.made_anew = False  # what is stopped stays stopped
    process.step()
    assert len(behind(store, log)) == PARTITIONS
    assert statistics_in(store.client) == {}
    for number in range(PARTITIONS):
        assert metric("om_fold_stopped", partition=str(number)) == 1

    finish(FoldProcess(ours, log, store), store, log)
    assert len(made) == 8
    assert_exactly_once(store, log, ours)


def test_a_log_made_anew_is_noticed_when_partitions_are_assigned(store: Store, log: Moody, ours: Settings) -> None:
    fill(log, 8)
    process = FoldProcess(ours, log, store)
    log.made_anew = True
    process.step()
    log.made_anew = False
    process.step()
    assert len(behind(store, log)) == PARTITIONS
    assert log.letters == []


def test_a_log_made_anew_is_told_even_when_its_partitions_are_gone(store: Store, log: Moody, ours: Settings) -> None:
    process = FoldProcess(ours, log, store)
    process.step()
    log.subscription.close()
    log.subscription.gone = True
    process.step()
    assert metric("om_fold_stopped", partition="0") == 0
    log.made_anew = True
    process.step()
    for number in range(PARTITIONS):
        assert metric("om_fold_stopped", partition=str(number)) == 1


def test_a_bundle_that_is_missing_stops_its_partition_alone(store: Store, log: Moody, ours: Settings) -> None:
    fill(log, 8)
    unknown = "20270101T000000Z"
    (slate,) = slates(log, 1, version=unknown)
    home = partition(slate)
    write(log, slate, "senseless", impression(slate))
    process = FoldProcess(ours, log, store)
    step_until(process, lambda: behind(store, log) == [home])
    fill(log, 8)
    step_until(process, lambda: behind(store, log) == [home])
    assert metric("om_fold_stopped", partition=str(home)) == 1
    process.step()
    before = len(log.letters)

    publish(ours.bundles, unknown)
    finish(FoldProcess(ours, log, store), store, log)
    assert_exactly_once(store, log, ours)
    names = [letter[:3] for letter in log.letters]
    assert len(names) > before
    assert len(set(names)) == len(names)


def test_a_stopped_partition_says_so_no_more_once_it_is_let_go(store: Store, log: Moody, ours: Settings) -> None:
    store.client.hset(store.keys.watermarks(0), watermark_field(log.epoch(), 1), "5")
    process = FoldProcess(ours, log, store)
    process.step()
    assert metric("om_fold_stopped", partition="1") == 1
    process.stop()
    process.run()
    assert metric("om_fold_stopped", partition="1") == 0
