from typing import Any

import pytest
from pydantic import ValidationError

from service.events import EVENT, EVENTS, Impression, Reward


def test_an_impression_names_its_items_or_means_all() -> None:
    assert EVENT.validate_json('{"type": "impression", "attribution_token": "t"}') == Impression(
        type="impression", attribution_token="t", items=None
    )
    named = EVENT.validate_json('{"type": "impression", "attribution_token": "t", "items": ["a/b", "ü"]}')
    assert isinstance(named, Impression)
    assert named.items == ["a/b", "ü"]


def test_a_reward_is_a_whole_click_by_default() -> None:
    assert EVENT.validate_json('{"type": "reward", "attribution_token": "t", "item_id": "a"}') == Reward(
        type="reward", attribution_token="t", item_id="a", name="click", value=1.0
    )


def test_a_list_holds_both_kinds_in_order() -> None:
    events = EVENTS.validate_json(
        '[{"type": "reward", "attribution_token": "t", "item_id": "a", "name": "watch", "value": 0.25},'
        ' {"type": "impression", "attribution_token": "t"}]'
    )
    assert [type(event) for event in events] == [Reward, Impression]


REWARD = {"type": "reward", "attribution_token": "t", "item_id": "a"}
IMPRESSION = {"type": "impression", "attribution_token": "t"}


@pytest.mark.parametrize(
    "event",
    [
        REWARD | {"value": 0},
        REWARD | {"value": 1},
        REWARD | {"name": "n" * 64},
        REWARD | {"item_id": "i" * 1024},
        REWARD | {"attribution_token": "t" * 40_000},
        IMPRESSION | {"items": ["i"] * 200},
    ],
)
def test_the_bounds_themselves_are_taken(event: dict[str, Any]) -> None:
    read = EVENT.validate_python(event)
    assert {name: getattr(read, name) for name in event} == event


@pytest.mark.parametrize(
    ("event", "where"),
    [
        ({}, "type"),
        ({"type": "click", "attribution_token": "t"}, "impression"),
        ({"type": "reward", "attribution_token": "t"}, "item_id"),
        ({"type": "reward", "item_id": "a"}, "attribution_token"),
        ({"type": "impression"}, "attribution_token"),
        (REWARD | {"value": -0.01}, "value"),
        (REWARD | {"value": 1.01}, "value"),
        (REWARD | {"value": float("nan")}, "value"),
        (REWARD | {"value": "much"}, "value"),
        (REWARD | {"name": ""}, "name"),
        (REWARD | {"name": "n" * 65}, "name"),
        (REWARD | {"item_id": ""}, "item_id"),
        (REWARD | {"item_id": "i" * 1025}, "item_id"),
        (REWARD | {"item_id": 1}, "item_id"),
        (REWARD | {"attribution_token": "t" * 40_001}, "attribution_token"),
        (REWARD | {"extra": 1}, "extra"),
        (IMPRESSION | {"items": []}, "items"),
        (IMPRESSION | {"items": ["i"] * 201}, "items"),
        (IMPRESSION | {"items": ["a", ""]}, "items"),
        (IMPRESSION | {"items": "a"}, "items"),
        (IMPRESSION | {"extra": 1}, "extra"),
    ],
)
def test_what_is_not_an_event_is_refused_by_its_field(event: dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationError, match=where):
        EVENT.validate_python(event)


def test_events_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        EVENT.validate_python(REWARD).attribution_token = "other"  # type: ignore[misc]
