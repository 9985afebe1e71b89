"""A snapshot's file: the state that a pass over the log left, so that the next one need not start where the log began.

    magic, seal (32 bytes), length of the content (8 bytes), content: safetensors, compressed with zstd

The seal is a keyed hash of all that follows, so a file that is torn, altered or made with other keys is told apart.
"""

from __future__ import annotations

import hmac
from hashlib import blake2b
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from bandit.statistics import FIELDS
from service.store.keys import RowName
from service.verification.memory import Memory
from service.verification.state import Beginning, State

MAGIC = b"online-matching snapshot 1\n"
SEAL_BYTES = 32
LENGTH_BYTES = 8
ABOUT = "about"


class SnapshotRefused(Exception):  # noqa: N818 - names what happened
    """A file that cannot be gone on from; the message says why."""


class Facts(NamedTuple):
    """What a snapshot belongs to: the prefix in Redis, and S, P, N."""

    prefix: str
    shards: int
    partitions: int
    window_records: int


def encode(state: State, facts: Facts, key: bytes) -> bytes:
    """A state as a file's content, sealed with a key of at most 64 bytes. All of its windows must be at rest."""
    names = sorted(state.rows)
    about = {
        "facts": facts._asdict(),
        "epoch": state.beginning.epoch.hex(),
        "begins": state.beginning.offsets.tolist(),
        "earlier": dict(state.beginning.earlier),
        "positions": state.positions,
        "rows": [[str(name), len(state.rows[name])] for name in names],
        "totals": state.totals,
        "memories": [partition for partition, memory in enumerate(state.memories) if memory is not None],
    }
    arrays: dict[str, NDArray[np.generic]] = {
        ABOUT: np.frombuffer(orjson.dumps(about), np.uint8),
        "sums": np.concatenate([np.zeros((0, FIELDS), np.int64), *(state.rows[name] for name in names)]),
    }
    for partition, memory in enumerate(state.memories):
        for name, part in memory._asdict().items() if memory is not None else ():
            array = np.frombuffer(part, np.uint8) if isinstance(part, bytes) else part
            arrays[f"{partition}.{name}"] = array
    content = safetensors.numpy.save(arrays)
    packed = len(content).to_bytes(LENGTH_BYTES, "little") + pa.compress(content, codec="zstd", asbytes=True)
    return b"".join((MAGIC, _seal(packed, key), packed))


def decode(file: bytes, facts: Facts, key: bytes) -> State:
    """Read a file's content.

    Raises:
        SnapshotRefused: it is no snapshot, torn, altered, sealed with another key, or of other facts.
    """
    if not file.startswith(MAGIC):
        raise SnapshotRefused("it is not a snapshot of this format")
    seal, packed = file[len(MAGIC) :][:SEAL_BYTES], file[len(MAGIC) + SEAL_BYTES :]
    if not hmac.compare_digest(seal, _seal(packed, key)):
        raise SnapshotRefused("its seal does not fit: it is torn, was altered, or was made with another PSEUDONYM_KEY")
    length = int.from_bytes(packed[:LENGTH_BYTES], "little")
    content = pa.decompress(packed[LENGTH_BYTES:], length, codec="zstd", asbytes=True)
    arrays = safetensors.numpy.load(content)
    about = orjson.loads(arrays[ABOUT].tobytes())
    if about["facts"] != facts._asdict():
        differing = [name for name, value in facts._asdict().items() if about["facts"].get(name) != value]
        raise SnapshotRefused(f"it was made with another {', '.join(differing)}")
    ends = np.r_[0, np.cumsum([length for _, length in about["rows"]], dtype=np.int64)].tolist()
    names = [RowName.parse(name) for name, _ in about["rows"]]
    memories: list[Memory | None] = [None] * facts.partitions
    for partition in about["memories"]:
        memories[partition] = _memory(partition, arrays)
    return State(
        Beginning(bytes.fromhex(about["epoch"]), np.array(about["begins"], dtype=np.int64), about["earlier"]),
        about["positions"],
        {name: arrays["sums"][start:end].copy() for name, (start, end) in zip(names, pairwise(ends), strict=True)},
        about["totals"],
        memories,
    )


def _memory(partition: int, arrays: dict[str, NDArray[np.generic]]) -> Memory:
    parts = {name: arrays[f"{partition}.{name}"] for name in Memory._fields}
    joined = {name: parts[name].tobytes() for name in ("keys", "masks")}
    return Memory(**parts | joined)  # type: ignore[arg-type]


def _seal(packed: bytes, key: bytes) -> bytes:
    return blake2b(packed, key=key, digest_size=SEAL_BYTES, person=b"snapshot").digest()
