from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bandit.context import UNIT
from bandit.manifest import Manifest
from tests.bundles import small_bundle


def manifest(**changes: Any) -> Manifest:
    return Manifest.model_validate(small_bundle().manifest.model_dump() | changes)


def test_it_survives_json() -> None:
    built = manifest(reward_table={"click": 0.3, "purchase": 0.7}, examination_table=[1.0, 0.5])
    assert Manifest.model_validate_json(built.model_dump_json()) == built


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward_table": {}}, "empty"),
        ({"reward_table": {"click": 0.6, "purchase": 0.6}}, "more than 1"),
        ({"reward_table": {"click": -0.1}}, "greater than or equal to 0"),
        ({"examination_table": [1.5]}, "less than or equal to 1"),
        ({"version": "../elsewhere"}, "pattern"),
        ({"version": ""}, "pattern"),
        ({"temperature": 0.0}, "greater than 0"),
        ({"surprise": 1}, "Extra inputs"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        manifest(**changes)


def test_rewards_are_weighted_and_floored() -> None:
    built = manifest(reward_table={"click": 0.3, "purchase": 0.7})
    assert built.reward_units("click", 1.0) == int(0.3 * UNIT)
    assert built.reward_units("purchase", 0.5) == int(0.35 * UNIT)
    with pytest.raises(KeyError):
        built.reward_units("like", 1.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8).filter(lambda weights: sum(weights) > 0))
def test_an_items_rewards_never_add_up_to_more_than_one(weights: list[float]) -> None:
    table = {str(name): weight / max(1.0, sum(weights)) for name, weight in enumerate(weights)}
    built = manifest(reward_table=table)
    assert sum(built.reward_units(name, 1.0) for name in table) <= UNIT


def test_positions_past_the_examination_table_count_fully() -> None:
    built = manifest(examination_table=[1.0, 0.5])
    assert [built.examination_units(position) for position in range(4)] == [UNIT, UNIT // 2, UNIT, UNIT]
