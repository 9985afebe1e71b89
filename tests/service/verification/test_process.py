"""The process: what it prints and exports, how it ends, and that nothing that goes wrong ends it."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
from prometheus_client import REGISTRY

from service import metrics
from service.store.keys import watermark_field
from service.verification import process as verification
from service.verification import verifier
from service.verification.archive import LOG_START, Unverifiable
from service.verification.process import Stopped, VerificationProcess, run
from tests.service.servers import PrivateValkey, until
from tests.service.verification.world import World, bump


@pytest.fixture
def make(folded: World, valkey: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., VerificationProcess]]:
    """Makes processes over the folded world."""
    made: list[VerificationProcess] = []

    def make(**options: bool) -> VerificationProcess:
        process = VerificationProcess(folded.settings, valkey, **options)
        process._bundles._manifests |= folded.bundles
        made.append(process)
        return process

    monkeypatch.setattr(verification, "VerificationProcess", lambda settings, url, **options: make(**options))
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    yield make
    for process in made:
        process.close()


def metric(name: str) -> float:
    value = REGISTRY.get_sample_value(name)
    assert value is not None
    return value


Make = Callable[..., VerificationProcess]


def printed(
    folded: World, valkey: str, capsys: pytest.CaptureFixture[str], *, repair: bool = False
) -> tuple[int, str, dict[str, object]]:
    code = run(folded.settings, valkey, every_s=None, repair=repair)
    *people, machines = capsys.readouterr().out.splitlines()
    return code, "\n".join(people), json.loads(machines)


def test_all_is_well(make: Make, folded: World, valkey: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, people, figures = printed(folded, valkey, capsys)
    edges = len(folded.outcome().statistics)
    assert code == 0
    assert f"{edges} edges in " in people
    assert "equal the log" in people
    assert figures["edges_compared"] == edges
    zero = ("edges_different", "lost", "counted_twice", "rows_missing", "totals_different", "rows_unread")
    assert [figures[name] for name in zero] == [0] * 6
    assert figures["shortfall"] == figures["excess"] == [0, 0, 0]
    assert figures["from"] == LOG_START
    assert figures["records"] == 120
    assert figures["cut"] == {str(home): [folded.log.bounds(home)[1]] * 2 for home in range(4)}
    assert "seconds" in figures
    assert "snapshot" in figures


def test_what_differs_is_shown_and_left_alone(
    make: Make, folded: World, valkey: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, slot = bump(folded, 2**30)
    folded.store.client.hincrby(folded.store.keys.totals(1), "folded", 3)
    for _ in range(2):
        code, people, figures = printed(folded, valkey, capsys)
        assert code == 1
        assert f"{name} slot {slot}" in people
        assert "+1 (+1073741824)" in people
        assert "totals of shard 1" in people
        assert (figures["edges_different"], figures["counted_twice"], figures["totals_different"]) == (1, 1, 1)
        assert figures["excess"] == [0, 1, 0]
        assert "edges_repaired" not in figures


def test_it_is_set_right_on_request(make: Make, folded: World, valkey: str, capsys: pytest.CaptureFixture[str]) -> None:
    bump(folded, 1)
    code, _, figures = printed(folded, valkey, capsys, repair=True)
    assert code == 0
    assert (figures["edges_different"], figures["edges_repaired"], figures["edges_different_after"]) == (1, 1, 0)
    assert figures["shards_not_repaired"] == {}
    assert printed(folded, valkey, capsys)[0] == 0


def test_what_cannot_be_verified_is_raised(make: Make, folded: World, valkey: str) -> None:
    folded.forget(0, before=2)
    with pytest.raises(Unverifiable, match="the log's start has moved to 2"):
        run(folded.settings, valkey, every_s=None, repair=False)


def test_it_goes_round_whatever_happens(make: Make, folded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "AGAIN_S", 0.01)
    process = make()
    thread = Thread(target=process.every, args=[0.01])
    before = metric("om_verify_failures_total")
    metrics.VERIFY_LAST_SUCCESS.set(0)
    thread.start()
    try:
        until(lambda: metric("om_verify_last_success_timestamp") > 0)
        assert metric("om_verify_edges_different") == 0
        assert metric("om_verify_edges_compared") == len(folded.outcome().statistics)
        bump(folded, 1)
        until(lambda: metric("om_verify_edges_different") == 1)
        last = metric("om_verify_last_success_timestamp")
        assert metric("om_verify_counted_twice") == 1
        watermarks, field = folded.store.keys.watermarks(0), watermark_field(folded.epoch, 0)
        kept = folded.log.bounds(0)[1]
        folded.store.client.hset(watermarks, field, "9999")
        until(lambda: metric("om_verify_failures_total") > before)
        assert metric("om_verify_last_success_timestamp") == last
        folded.store.client.hset(watermarks, field, kept)
        bump(folded, -1)
        until(lambda: metric("om_verify_last_success_timestamp") > last)
    finally:
        process.stopping.set()
        thread.join(30)
    assert not thread.is_alive()


def test_it_waits_for_a_redis_that_is_not_up_yet(folded: World, tmp_path: Path) -> None:
    before = metric("om_verify_failures_total")
    server = PrivateValkey(tmp_path / "later")
    process = VerificationProcess(folded.settings.model_copy(update={"state_folder": tmp_path}), server.url)
    metrics.VERIFY_LAST_SUCCESS.set(0)
    thread = Thread(target=process.every, args=[3600])
    thread.start()
    try:
        with server:
            until(lambda: metric("om_verify_last_success_timestamp") > 0)
            process.stopping.set()
            thread.join(30)
    finally:
        process.stopping.set()
        thread.join(30)
        process.close()
    assert metric("om_verify_failures_total") == before


def test_it_ends_in_the_middle_of_a_pass_when_asked(make: Make, folded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    process = make()
    process.stopping.set()
    with pytest.raises(Stopped):
        process.once()
    assert verifier.Progress().judged(5) is None
