from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import orjson
import pytest

from service.api import events as module
from service.attribution import Reason
from service.feedback_log.base import LogUnavailable, Position
from service.feedback_log.sqlite import SqliteLog
from service.token import AttributionToken, decode, encode
from tests.bundles import small_bundle
from tests.service.conftest import MakeLoop
from tests.service.loop import Loop
from tests.service.single_pass import whole_log


class Failing(SqliteLog):
    """A log that refuses some keys, and never answers for others."""

    def __init__(self, loop: Loop) -> None:
        settings = loop.settings
        super().__init__(settings.feedback_database, settings.partitions, settings.log_retention_s)
        self.refused: set[bytes] = set()
        self.stuck: set[bytes] = set()

    def append(self, key: bytes, value: bytes) -> Future[Position]:
        done: Future[Position] = Future()
        if key in self.refused:
            done.set_exception(LogUnavailable("the log is full"))
        elif key not in self.stuck:
            done = super().append(key, value)
        return done


@pytest.fixture
def failing(loop: Loop) -> Iterator[Failing]:
    """The loop's log, in the place of the one it opened."""
    own, failing = loop.serving.log, Failing(loop)
    loop.serving.log = failing
    yield failing
    loop.serving.log = own
    failing.close()


def shown(slate: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"type": "impression", "attribution_token": slate["attribution_token"]} | changes


def clicked(slate: dict[str, Any], **changes: Any) -> dict[str, Any]:
    item_id = slate["items"][0]["item_id"]
    return {"type": "reward", "attribution_token": slate["attribution_token"], "item_id": item_id} | changes


def records(loop: Loop) -> list[tuple[bytes, Any]]:
    """Key and value of every record."""
    assert loop.serving.log is not None
    return [(record.key, orjson.loads(record.value)) for log in whole_log(loop.serving.log).values() for record in log]


def signed(loop: Loop, slate: dict[str, Any], change: Callable[[AttributionToken], AttributionToken]) -> dict[str, Any]:
    """The slate under a token of ours that says something else."""
    keys = loop.settings.verifying_keys
    token = change(decode(slate["attribution_token"], keys))
    return slate | {"attribution_token": encode(token, 1, keys[1])}


def test_one_event_is_accepted_and_durable(loop: Loop) -> None:
    slate = loop.recommend()
    answer = loop.client.post("/v1/events", json=shown(slate))
    assert (answer.status_code, answer.json()) == (202, {"events": [{"verdict": "accepted"}]})
    assert records(loop) == [(slate["recommendation_id"].encode(), shown(slate))]


def test_events_of_one_request_are_one_record_in_their_order(loop: Loop) -> None:
    first, second = loop.recommend(), loop.recommend()
    said = [clicked(first), shown(second), shown(first), clicked(second, name="click", value=0.25)]
    assert loop.send(*said) == ["accepted"] * 4
    reward = clicked(first, name="click", value=1.0)
    assert sorted(records(loop), key=lambda record: record[0] == second["recommendation_id"].encode()) == [
        (first["recommendation_id"].encode(), [reward, shown(first)]),
        (second["recommendation_id"].encode(), [shown(second), said[3]]),
    ]


def test_verdicts_stand_in_the_order_of_the_events(loop: Loop) -> None:
    slate = loop.recommend(limit=3, exclude_item_ids=["item-0"])
    said = [
        clicked(slate, item_id="item-0"),
        shown(slate),
        shown(slate, attribution_token="AAAA"),
        clicked(slate, name="purchase"),
        clicked(slate),
        shown(slate, items=[slate["items"][0]["item_id"], "item-0"]),
    ]
    answer = loop.client.post("/v1/events", json=said)
    assert answer.status_code == 202
    told = answer.json()["events"]
    assert [verdict["verdict"] for verdict in told] == [
        "refused",
        "accepted",
        "refused",
        "refused",
        "accepted",
        "refused",
    ]
    assert told[0]["reason"] == "item 'item-0' was not in the slate"
    assert told[2]["reason"] == "attribution_token is too short"
    assert told[3]["reason"] == "no reward 'purchase'; the table has click"
    ((_, value),) = records(loop)
    assert value == [shown(slate), clicked(slate, name="click", value=1.0)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda token: token._replace(epoch=b"another log's   "), Reason.OTHER_EPOCH),
        (lambda token: token._replace(issued_ms=token.issued_ms - 3601_000), Reason.EXPIRED),
        (lambda token: token._replace(issued_ms=token.issued_ms + 90_000), Reason.TOO_EARLY),
    ],
)
def test_tokens_of_another_time_or_log_are_refused(
    loop: Loop, change: Callable[[AttributionToken], AttributionToken], reason: Reason
) -> None:
    slate = signed(loop, loop.recommend(), change)
    answer = loop.client.post("/v1/events", json=shown(slate))
    assert answer.status_code == 422
    assert answer.json() == {"events": [{"verdict": "refused", "reason": reason.value}]}
    assert records(loop) == []


def test_a_token_that_was_altered_is_refused(loop: Loop) -> None:
    slate = loop.recommend()
    text = slate["attribution_token"]
    altered = shown(slate, attribution_token=text[:100] + ("A" if text[100] != "A" else "B") + text[101:])
    assert loop.send(altered) == ["refused"]


def test_a_token_of_a_bundle_that_is_not_here_yet_is_taken(loop: Loop) -> None:
    slate = signed(loop, loop.recommend(), lambda token: token._replace(version="20270101T000000Z"))
    assert loop.send(shown(slate), clicked(slate, name="whatever")) == ["accepted", "accepted"]
    assert len(records(loop)) == 1


def test_when_all_are_refused_nothing_was_accepted(loop: Loop) -> None:
    slate = loop.recommend()
    answer = loop.client.post("/v1/events", json=[clicked(slate, item_id="other"), clicked(slate, name="other")])
    assert answer.status_code == 422
    assert [verdict["verdict"] for verdict in answer.json()["events"]] == ["refused", "refused"]
    assert records(loop) == []


def test_at_most_five_hundred_events_at_a_time(loop: Loop) -> None:
    slate = loop.recommend()
    assert loop.send(*[shown(slate)] * 500) == ["accepted"] * 500
    for count in (0, 501):
        answer = loop.client.post("/v1/events", json=[shown(slate)] * count)
        assert answer.status_code == 422
        assert answer.json()["detail"] == f"send 1 to 500 events, not {count}"


@pytest.mark.parametrize("said", [{}, {"type": "view"}, [{"type": "impression"}], {"type": "reward", "value": 2}])
def test_what_is_not_an_event_is_refused_whole(loop: Loop, said: object) -> None:
    answer = loop.client.post("/v1/events", json=said)
    assert answer.status_code == 422
    assert answer.json()["title"] == "The request does not fit"


def test_what_the_log_does_not_take_must_be_sent_again(loop: Loop, failing: Failing) -> None:
    lost, kept = loop.recommend(), loop.recommend()
    failing.refused = {lost["recommendation_id"].encode()}
    answer = loop.client.post("/v1/events", json=[shown(lost), shown(kept), clicked(lost), clicked(kept, name="no")])
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["events"][:3] == [
        {"verdict": "retry", "reason": "the log is full"},
        {"verdict": "accepted"},
        {"verdict": "retry", "reason": "the log is full"},
    ]
    assert answer.json()["events"][3]["verdict"] == "refused"
    assert records(loop) == [(kept["recommendation_id"].encode(), shown(kept))]
    failing.refused = set()
    assert loop.send(shown(lost), clicked(lost)) == ["accepted", "accepted"]


def test_a_log_that_does_not_answer_is_not_waited_for_long(
    loop: Loop, failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.1)
    slate = loop.recommend()
    failing.stuck = {slate["recommendation_id"].encode()}
    answer = loop.client.post("/v1/events", json=shown(slate))
    assert answer.status_code == 503
    assert "sending again does no harm" in answer.json()["events"][0]["reason"]


def test_events_are_counted_by_their_items(make_loop: MakeLoop) -> None:
    loop = make_loop(small_bundle())
    slate = loop.recommend(limit=9)
    before = counts(loop)
    two = [item["item_id"] for item in slate["items"][:2]]
    loop.send(shown(slate), shown(slate, items=[*two, *two]), clicked(slate), clicked(slate, name="other"))
    after = counts(loop)
    assert after[""] - before.get("", 0) == 9 + 2 + 1
    assert after[Reason.UNKNOWN_REWARD.value] - before.get(Reason.UNKNOWN_REWARD.value, 0) == 1


def counts(loop: Loop) -> dict[str, float]:
    """Events received, by reason."""
    found = {}
    for line in loop.client.get("/metrics").text.splitlines():
        if line.startswith("om_events_received_total{"):
            found[line.split('reason="')[1].split('"')[0]] = float(line.rsplit(" ", 1)[1])
    return found


def test_an_event_sent_again_changes_nothing(loop: Loop) -> None:
    slate = loop.recommend(user_id="user-0")
    for _ in range(3):
        assert loop.send(shown(slate), clicked(slate)) == ["accepted", "accepted"]
    loop.fold()
    state = loop.item(slate["items"][0]["item_id"], view="state")["state"][0]
    reach = sum(edge["n"] for edge in state["edges"])
    assert state["impressions"] == state["rewards"] == reach
    assert 0 < reach <= 1
