"""What a fold hands to the function in Redis: keys in the function's order, arguments in its layout."""

import numpy as np

from bandit.statistics import EDGE_BYTES
from service.store import deltas
from service.store.deltas import EDGE_DTYPE, TIME_DTYPE, USER_ITEM_DTYPE, Limits, Row, ShardDeltas, UserItems
from service.store.keys import Keys

LIMITS = Limits(edges=10, seen_items=7, recent_items=3, user_life_ms=1000)
USER = bytes(range(16))


def a_delta() -> ShardDeltas:
    row = Row("default", "v1", 5, np.array([2, 9]), np.array([[1, 2, 0], [0, 0, 2**40]]))
    seen = [UserItems(0, USER, False, np.array([7, 2**31], np.uint32), at) for at in (100, 200)]
    answered = UserItems(1, USER, True, np.array([7], np.uint32), 100)
    return ShardDeltas(1, 4, 6, [row], [*seen, answered], np.array([30, 10, 30]), {"folded": 5, "late": 1})


def test_an_edge_is_its_slot_and_three_sums() -> None:
    assert EDGE_DTYPE.itemsize == 4 + EDGE_BYTES


def test_keys_come_in_the_functions_order() -> None:
    names, _ = deltas.call(Keys("om", 4), "e:0", a_delta(), LIMITS)
    assert names == [
        "om:{1}:watermarks",
        "om:{1}:changes",
        "om:{1}:totals",
        "om:{1}:row:default:v1:0:5",
        *(f"om:{{{Keys('om', 4).shard_of_user(USER)}}}:user:{USER.hex()}:{kind}" for kind in ("seen", "recent")),
    ]


def test_arguments_come_in_the_functions_order() -> None:
    _, arguments = deltas.call(Keys("om", 4), "e:0", a_delta(), LIMITS)
    assert arguments[:7] == ["e:0", 4, 6, 1, 2, 10, deltas.STREAM_ENTRIES]
    times = np.frombuffer(arguments[7], TIME_DTYPE)
    assert times.tolist() == [(10, 1), (30, 2)]
    assert arguments[8:14] == [1000, 2, "folded", 5, "late", 1]
    row = np.frombuffer(arguments[14], EDGE_DTYPE)
    assert row["slot"].tolist() == [2, 9]
    assert row["sums"].tolist() == [[1, 2, 0], [0, 0, 2**40]]
    (most_seen, seen), (most_recent, recent) = arguments[15:17], arguments[17:]
    assert (most_seen, most_recent) == (7, 3)
    assert np.frombuffer(seen, USER_ITEM_DTYPE).tolist() == [(7, 100), (2**31, 100), (7, 200), (2**31, 200)]
    assert np.frombuffer(recent, USER_ITEM_DTYPE).tolist() == [(7, 100)]
