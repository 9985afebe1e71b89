from collections.abc import Iterator
from threading import Barrier, Thread
from typing import Any

import pytest

from service.store.active import NOTHING, Active, Change
from service.store.redis import Store, connect


@pytest.fixture
def active(store: Store) -> Active:
    return Active(store)


@pytest.fixture
def others(store: Store, valkey: str) -> Iterator[list[Active]]:
    """Other servers' clients."""
    stores = [Store(connect(valkey), store.keys) for _ in range(8)]
    yield [Active(one) for one in stores]
    for one in stores:
        one.close()


def ask(active: Active, before: Change, version: str | None) -> Change | None:
    return active.change(before, version, before.version, rollback=False)


def test_at_first_nobody_asked_for_anything(active: Active) -> None:
    assert active.current() == NOTHING
    assert active.history() == []


def test_the_last_change_is_in_force_and_all_are_kept(active: Active) -> None:
    first = ask(active, NOTHING, "v1")
    assert first is not None
    assert (first.revision, first.version, first.instead_of) == (1, "v1", None)
    second = active.change(first, None, "v1", rollback=True)
    assert second is not None
    assert second.rollback
    assert active.current() == second
    assert active.history() == [second, first]


def test_a_change_is_on_disk_before_anybody_hears_of_it(active: Active, store: Store) -> None:
    """Unlike statistics it would not come back from the log."""
    before = waits(store)
    assert ask(active, NOTHING, "v1") is not None
    assert waits(store) == before + 1


def test_a_server_without_such_a_file_is_not_waited_for(active: Active, store: Store) -> None:
    store.client.config_set("appendonly", "no")
    try:
        assert ask(active, NOTHING, "v1") is not None
    finally:
        store.client.config_set("appendonly", "yes")
    assert active.current().version == "v1"


def waits(store: Store) -> int:
    """How often servers were asked to wait for their disk."""
    counted: list[Any] = [server.info("commandstats") for server in store._masters()]
    return sum(int(one.get("cmdstat_waitaof", {"calls": 0})["calls"]) for one in counted)


def test_more_than_nine_changes_are_in_order(active: Active) -> None:
    last: Change | None = NOTHING
    for number in range(12):
        assert last is not None
        last = ask(active, last, f"v{number}")
    assert active.current() == last
    assert [change.revision for change in active.history()] == list(range(12, 0, -1))


def test_who_decided_on_an_older_state_changes_nothing(active: Active) -> None:
    first = ask(active, NOTHING, "v1")
    assert ask(active, NOTHING, "v2") is None
    assert active.current() == first


def test_of_many_at_once_one_wins(active: Active, others: list[Active]) -> None:
    won: list[Change] = []
    together = Barrier(len(others))

    def run(one: Active, number: int) -> None:
        together.wait()
        change = ask(one, NOTHING, f"v{number}")
        if change is not None:
            won.append(change)

    threads = [Thread(target=run, args=(one, number)) for number, one in enumerate(others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [active.current()]


def test_a_change_that_was_sent_twice_is_made(active: Active, monkeypatch: pytest.MonkeyPatch) -> None:
    client: Any = active._store.client
    send = client.hsetnx
    monkeypatch.setattr(client, "hsetnx", lambda *change: send(*change) and send(*change))
    asked = ask(active, NOTHING, "v1")
    assert asked == active.current()


def test_prefixes_are_apart(active: Active, store: Store, valkey: str) -> None:
    other = Active(Store(connect(valkey), store.keys._replace(prefix="other")))
    assert ask(other, NOTHING, "v1")
    assert active.current() == NOTHING
    other.close()
