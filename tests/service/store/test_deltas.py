"""What a fold hands to the function in Redis: keys in the function's order, arguments in its layout."""

import struct

import numpy as np

from bandit.statistics import EDGE_BYTES
from service.store import deltas
from service.store.deltas import EDGE_DTYPE, TIME_DTYPE, Limits, Row, ShardDeltas, UserItems
from service.store.keys import Keys

LIMITS = Limits(edges=10, seen_items=7, recent_items=3, user_life_ms=1000)
USER, OTHER = bytes(range(16)), bytes(range(8)) + b"somebody"
KEYS = Keys("om", 4)


def items(*names: int) -> bytes:
    return struct.pack(f"<{len(names)}I", *names)


def a_delta() -> ShardDeltas:
    rows = [
        Row("default", "v1", 5, np.array([2, 9]), np.array([[1, 2, 0], [0, 0, 2**40]])),
        Row("default", "v1", 9, np.array([0]), np.array([[3, 3, 3]])),
    ]
    users = [
        UserItems(0, USER, False, items(7, 2**31), 100),
        UserItems(0, OTHER, False, items(5), 150),
        UserItems(1, USER, True, items(7), 100),
        UserItems(1, USER, False, items(1), 200),
    ]
    return ShardDeltas(1, 4, 6, rows, users, np.array([30, 10, 30]), {"folded": 5, "late": 1})


def a_slate(issued_ms: int, *names: int) -> bytes:
    return struct.pack(">QH", issued_ms, len(names)) + items(*names)


def test_an_edge_is_its_slot_and_three_sums() -> None:
    assert EDGE_DTYPE.itemsize == 4 + EDGE_BYTES


def test_keys_come_in_the_functions_order() -> None:
    names, _ = deltas.call(KEYS, "e:0", a_delta(), LIMITS)
    users = [f"om:{{{KEYS.shard_of_user(user)}}}:user:{user.hex()}" for user in (USER, OTHER)]
    assert names == [
        "om:{1}:watermarks",
        "om:{1}:changes",
        "om:{1}:totals",
        "om:{1}:row:default:v1:0:5",
        "om:{1}:row:default:v1:0:9",
        f"{users[0]}:seen",
        f"{users[1]}:seen",
        f"{users[0]}:recent",
    ]


def test_arguments_come_in_the_functions_order() -> None:
    _, arguments = deltas.call(KEYS, "e:0", a_delta(), LIMITS)
    assert arguments[:11] == ["e:0", 4, 6, 2, 2, 1, 10, deltas.STREAM_ENTRIES, 1000, 7, 3]
    times, sizes, edges, slates = arguments[11:15]
    assert np.frombuffer(times, TIME_DTYPE).tolist() == [(10, 1), (30, 2)]
    assert struct.unpack(">2I", sizes) == (2, 1)
    read = np.frombuffer(edges, EDGE_DTYPE)
    assert read["slot"].tolist() == [2, 9, 0]
    assert read["sums"].tolist() == [[1, 2, 0], [0, 0, 2**40], [3, 3, 3]]
    one, two = struct.pack(">I", 1), struct.pack(">I", 2)
    of_users = [two + a_slate(100, 7, 2**31) + a_slate(200, 1), one + a_slate(150, 5), one + a_slate(100, 7)]
    assert slates == b"".join(of_users)
    assert arguments[15:] == ["folded", 5, "late", 1]


def test_the_same_slate_again_is_told_once_with_its_newest_time() -> None:
    times = [200, 300, 100]
    again = a_delta()._replace(users=[UserItems(n, USER, False, items(7, 8), at) for n, at in enumerate(times)])
    _, arguments = deltas.call(KEYS, "e:0", again, LIMITS)
    assert arguments[14] == struct.pack(">I", 1) + a_slate(300, 7, 8)


def test_a_call_without_rows_and_users_is_short() -> None:
    _, arguments = deltas.call(KEYS, "e:0", ShardDeltas(1, 4, 6, [], [], np.zeros(0, np.int64), {}), LIMITS)
    assert arguments[3:6] == [0, 0, 0]
    assert arguments[11:] == [b"", b"", b"", b""]


def test_a_call_is_as_long_as_its_edges_or_its_users_items() -> None:
    assert a_delta().increments == 5
    assert a_delta()._replace(users=[]).increments == 3


def test_the_longer_the_entries_the_fewer_a_change_stream_keeps() -> None:
    slots = np.arange(1000)
    row = Row("default", "v1", 5, slots, np.ones((1000, 3), dtype=np.int64))
    _, arguments = deltas.call(KEYS, "e:0", a_delta()._replace(rows=[row]), LIMITS)
    assert arguments[7] == deltas.STREAM_EDGES // 1000
