"""From where a log is read again, as people say it."""

import pytest

from service.verification.origin import NoOrigin, Origin
from tests.service.tokens import ISSUED_MS
from tests.service.verification.world import APART_MS, World


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("earliest", Origin()),
        ("0", Origin(offset=0)),
        ("1234567", Origin(offset=1234567)),
        ("1800000000000", Origin(append_ms=1_800_000_000_000)),
        ("2027-01-15T08:00:00Z", Origin(append_ms=1_800_000_000_000)),
        ("2027-01-15T08:00:00", Origin(append_ms=1_800_000_000_000)),
        ("2027-01-15 09:00:00.250+01:00", Origin(append_ms=1_800_000_000_250)),
    ],
)
def test_what_is_taken(text: str, origin: Origin) -> None:
    assert Origin.parse(text) == origin
    assert Origin.parse(text).is_earliest == (text == "earliest")


@pytest.mark.parametrize("text", ["", "latest", "-1", "1.5", "yesterday", "²"])
def test_what_is_not(text: str) -> None:
    with pytest.raises(NoOrigin, match="neither `earliest` nor an offset, a time like"):
        Origin.parse(text)


def test_where_it_lies_in_a_log(world: World) -> None:
    for number in range(6):
        world.say(world.slate(number, home=0), 0)
    world.forget(0, before=2)
    assert Origin().offset_in(world.log, 0) == 2
    assert Origin(offset=4).offset_in(world.log, 0) == 4
    assert Origin(offset=99).offset_in(world.log, 0) == 6
    assert Origin(append_ms=0).offset_in(world.log, 0) == 2
    assert Origin(append_ms=ISSUED_MS + 3 * APART_MS).offset_in(world.log, 0) == 3
    assert Origin(append_ms=ISSUED_MS + 99 * APART_MS).offset_in(world.log, 0) == 6
    assert Origin(append_ms=ISSUED_MS).offset_in(world.log, 1) == 0
    with pytest.raises(NoOrigin, match="partition 0: the log begins at 2, it cannot be read from 1"):
        Origin(offset=1).offset_in(world.log, 0)
