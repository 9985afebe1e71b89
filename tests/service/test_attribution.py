from datetime import UTC, datetime
from typing import Any

import pytest

from bandit.context import UNIT
from bandit.manifest import Counts, Manifest
from service.attribution import CLOCK_SKEW_MS, Reason, Refused, attribute, check_time
from service.events import Impression, Reward
from tests.service.tokens import ISSUED_MS, ITEMS, LIFE_S, PSEUDONYM_KEY, REQUEST, VERSION, a_token

MANIFEST = Manifest(
    version=VERSION,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    counts=Counts(users=1, items=3, clusters=8, edges=9, clusters_per_user=3),
    temperature=1,
    reward_table={"click": 0.25, "watch": 0.75},
)


def impression(items: list[str] | None = None) -> Impression:
    return Impression(type="impression", attribution_token="t", items=items)


def reward(**changes: Any) -> Reward:
    return Reward(**{"type": "reward", "attribution_token": "t", "item_id": ITEMS[0]} | changes)


@pytest.mark.parametrize(
    ("items", "positions"),
    [
        (None, 0b111),
        (list(ITEMS), 0b111),
        ([ITEMS[0]], 0b001),
        ([ITEMS[2], ITEMS[1]], 0b110),
        ([ITEMS[1], ITEMS[1]], 0b010),
    ],
)
def test_an_impression_speaks_of_positions(items: list[str] | None, positions: int) -> None:
    said = attribute(impression(items), a_token(), MANIFEST, PSEUDONYM_KEY)
    assert (said.positions, said.reward, said.key) == (positions, None, REQUEST)
    assert said.key == said.impression_key


def test_an_impression_of_200_items_speaks_of_all_of_them() -> None:
    token = a_token(items=a_token().items.repeat(67)[:200])
    assert attribute(impression(), token, MANIFEST, PSEUDONYM_KEY).positions == (1 << 200) - 1


@pytest.mark.parametrize(
    ("changes", "positions", "units"),
    [
        ({}, 0b001, UNIT // 4),
        ({"item_id": ITEMS[1]}, 0b010, UNIT // 4),
        ({"name": "watch"}, 0b001, UNIT * 3 // 4),
        ({"name": "watch", "value": 0.5}, 0b001, UNIT * 3 // 8),
        ({"value": 0}, 0b001, 0),
        ({"value": 1e-9}, 0b001, 0),
    ],
)
def test_a_reward_weighs_what_the_reward_table_says(changes: dict[str, Any], positions: int, units: int) -> None:
    said = attribute(reward(**changes), a_token(), MANIFEST, PSEUDONYM_KEY)
    assert (said.positions, said.reward) == (positions, units)


def test_keys_tell_requests_kinds_and_reward_names_apart_in_at_most_32_bytes() -> None:
    events: list[Impression | Reward] = [impression(), reward(), reward(name="watch")]
    tokens = [a_token(), a_token(request_id=b"r" * 16)]
    keys = {attribute(event, token, MANIFEST, PSEUDONYM_KEY).key for event in events for token in tokens}
    assert len(keys) == 6
    assert max(map(len, keys)) <= 32


def test_a_key_does_not_depend_on_what_a_retry_may_change() -> None:
    """Neither value nor item: positions beside the key tell items apart, and the first value counts."""
    sent = [reward(), reward(value=0.5), reward(item_id=ITEMS[2])]
    keys = {attribute(event, a_token(), MANIFEST, PSEUDONYM_KEY).key for event in sent}
    assert len(keys) == 1


@pytest.mark.parametrize("event", [impression(["first", "stranger"]), reward(item_id="stranger")])
def test_an_item_that_was_not_in_the_slate_is_refused(event: Impression | Reward) -> None:
    with pytest.raises(Refused, match="item 'stranger' was not in the slate") as refused:
        attribute(event, a_token(), MANIFEST, PSEUDONYM_KEY)
    assert refused.value.reason is Reason.NOT_IN_SLATE


def test_an_item_is_not_recognised_under_another_pseudonym_key() -> None:
    with pytest.raises(Refused, match="not in the slate"):
        attribute(reward(), a_token(), MANIFEST, b"another")


def test_an_unknown_reward_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(Refused, match="no reward 'like'; the table has click, watch") as refused:
        attribute(reward(name="like"), a_token(), MANIFEST, PSEUDONYM_KEY)
    assert refused.value.reason is Reason.UNKNOWN_REWARD


@pytest.mark.parametrize("append_ms", [ISSUED_MS - CLOCK_SKEW_MS, ISSUED_MS, ISSUED_MS + LIFE_S * 1000])
def test_the_tokens_time_includes_its_bounds(append_ms: int) -> None:
    check_time(a_token(), append_ms)


@pytest.mark.parametrize(
    ("append_ms", "reason"),
    [(ISSUED_MS - CLOCK_SKEW_MS - 1, Reason.TOO_EARLY), (ISSUED_MS + LIFE_S * 1000 + 1, Reason.EXPIRED)],
)
def test_outside_of_the_tokens_time_nothing_counts(append_ms: int, reason: Reason) -> None:
    with pytest.raises(Refused, match=reason.value) as refused:
        check_time(a_token(), append_ms)
    assert refused.value.reason is reason


def test_a_refusal_tells_its_reason_unless_it_has_more_to_say() -> None:
    assert str(Refused(Reason.EXPIRED)) == "token expired"
    assert str(Refused(Reason.FORGED, "attribution_token is too short")) == "attribution_token is too short"
