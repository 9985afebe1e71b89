import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.feedback_log.base import partition_of


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"abc", 479470107),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    ],
)
def test_keys_hash_as_in_javas_client(key: bytes, hashed: int) -> None:
    """The vectors are those that Apache Kafka tests its own murmur2 with."""
    assert partition_of(key, 2**31) == hashed & 0x7FFFFFFF
    assert partition_of(key, 8) == (hashed & 0x7FFFFFFF) % 8


@given(st.integers(1, 64))
def test_keys_are_spread_over_all_partitions(partitions: int) -> None:
    assert {partition_of(b"%d" % n, partitions) for n in range(partitions * 20)} == set(range(partitions))
