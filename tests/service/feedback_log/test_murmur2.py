from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2 as reference

from service.feedback_log.murmur2 import murmur2


@given(st.binary(max_size=70))
def test_it_is_the_hash_of_kafkas_own_clients(data: bytes) -> None:
    assert murmur2(data) == reference(data) & 0xFFFFFFFF


def test_known_values() -> None:
    """From Kafka's own tests (UtilsTest.java), as unsigned numbers."""
    known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    for data, value in known.items():
        assert murmur2(data) == value % 2**32
