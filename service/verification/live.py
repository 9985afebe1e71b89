"""What is live: rows and totals of the shards, each read together with the watermarks that it belongs to.

A shard that is large is read in pieces. No piece waits for another: each is one transaction, consistent with its own
watermarks, so it is a cut of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from service.store.keys import SEQUENCE, Keys, RowName, begin_field, watermark_field
from service.store.redis import Store

ROWS_IN_A_PIECE = 256


class Watermarks(NamedTuple):
    """A shard's watermarks at one moment.

    `offsets` and `begins` have one entry a partition of the epoch; `earlier` are those of other epochs, by field, where
    they are not 0; `fields` is the hash as it stood.
    """

    offsets: list[int]
    begins: list[int]
    earlier: dict[str, int]
    fields: dict[str, str]

    @classmethod
    def read(cls, found: Mapping[bytes, bytes], epoch: bytes, partitions: int) -> Watermarks:
        """From the hash as Redis answers it."""
        fields = {name.decode(): value.decode() for name, value in found.items()}
        mine = epoch.hex()
        earlier = {
            name: int(value)
            for name, value in fields.items()
            if name != SEQUENCE and not name.startswith(mine) and name.count(":") == 1 and int(value)
        }
        return cls(
            [int(fields.get(watermark_field(epoch, p), 0)) for p in range(partitions)],
            [int(fields.get(begin_field(epoch, p), 0)) for p in range(partitions)],
            earlier,
            fields,
        )


class Piece(NamedTuple):
    """Some rows of a shard (b"" for one that is not there), perhaps its totals, and the watermarks of that moment."""

    shard: int
    watermarks: Watermarks
    rows: dict[RowName, bytes]
    totals: dict[str, int] | None


class Cut:
    """Pieces, and so for every row and every shard's totals the watermarks that they belong to."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.rows: dict[RowName, Piece] = {}
        self.totals: dict[int, Piece] = {}
        self.pieces: list[Piece] = []

    def add(self, pieces: Iterable[Piece]) -> None:
        """Take pieces in; a row that is there already is replaced."""
        for piece in pieces:
            self.pieces.append(piece)
            self.rows |= dict.fromkeys(piece.rows, piece)
            if piece.totals is not None:
                self.totals[piece.shard] = piece

    def least(self, partition: int) -> int:
        """The lowest watermark of a partition."""
        return min(piece.watermarks.offsets[partition] for piece in self.pieces)

    def most(self, partition: int) -> int:
        """The highest watermark of a partition."""
        return max(piece.watermarks.offsets[partition] for piece in self.pieces)

    def of_row(self, name: RowName, partition: int) -> int:
        """The watermark that a row belongs to; for one that was not read, that of its shard's totals."""
        piece = self.rows.get(name) or self.totals[self._keys.shard_of_cluster(name.cluster)]
        return piece.watermarks.offsets[partition]

    def of_totals(self, shard: int, partition: int) -> int:
        """The watermark that a shard's totals belong to."""
        return self.totals[shard].watermarks.offsets[partition]


def watermarks(store: Store, epoch: bytes, partitions: int) -> list[Watermarks]:
    """Those of every shard, as they stand now."""
    pipeline = store.client.pipeline(transaction=False)
    for shard in range(store.keys.shards):
        pipeline.hgetall(store.keys.watermarks(shard))
    return [Watermarks.read(found, epoch, partitions) for found in pipeline.execute()]


def watermarks_of(store: Store, epoch: bytes, partitions: int, shard: int) -> Watermarks:
    """Those of one shard, as they stand now."""
    found = cast(dict[bytes, bytes], store.client.hgetall(store.keys.watermarks(shard)))
    return Watermarks.read(found, epoch, partitions)


def row_names(store: Store) -> tuple[list[RowName], list[str]]:
    """The rows under the store's prefix, and keys among them that are no row's."""
    names, unknown = set(), []
    for key in store.client.scan_iter(f"{store.keys.prefix}:{{*}}:row:*", count=1000):
        text = cast(bytes, key).decode()
        name = _row_name(text, store.keys)
        if name is None:
            unknown.append(text)
        else:
            names.add(name)
    return sorted(names), sorted(unknown)


def read(
    store: Store, epoch: bytes, partitions: int, names: Iterable[RowName], *, totals: bool = False
) -> Iterator[Piece]:
    """Read rows, and every shard's totals if asked for, piece by piece."""
    by_shard: dict[int, list[RowName]] = {shard: [] for shard in range(store.keys.shards)}
    for name in names:
        by_shard[store.keys.shard_of_cluster(name.cluster)].append(name)
    for shard, mine in by_shard.items():
        if totals:
            yield _piece(store, epoch, partitions, shard, mine[:ROWS_IN_A_PIECE], totals=True)
        for start in range(ROWS_IN_A_PIECE if totals else 0, len(mine), ROWS_IN_A_PIECE):
            yield _piece(store, epoch, partitions, shard, mine[start : start + ROWS_IN_A_PIECE], totals=False)


def _piece(store: Store, epoch: bytes, partitions: int, shard: int, names: Sequence[RowName], *, totals: bool) -> Piece:
    pipeline = store.client.pipeline(transaction=True)
    pipeline.hgetall(store.keys.watermarks(shard))
    if totals:
        pipeline.hgetall(store.keys.totals(shard))
    for name in names:
        pipeline.get(store.keys.row(name))
    answers: list[Any] = pipeline.execute()
    rows = {name: row or b"" for name, row in zip(names, answers[1 + totals :], strict=True)}
    books = {name.decode(): int(count) for name, count in answers[1].items()} if totals else None
    return Piece(shard, Watermarks.read(answers[0], epoch, partitions), rows, books)


def _row_name(key: str, keys: Keys) -> RowName | None:
    try:
        name = RowName.parse(key.split(":row:", 1)[1])
    except ValueError:
        return None
    return name if keys.row(name) == key else None
