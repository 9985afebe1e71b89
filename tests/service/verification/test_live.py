"""What is live, read in pieces that are each consistent with their own watermarks."""

from threading import Event, Thread

import pytest

from service.store.keys import RowName, begin_field, watermark_field
from service.store.redis import Store
from service.verification import live
from service.verification.live import Cut, Watermarks
from tests.conftest import SHARDS
from tests.service.store.calls import SHARD, deltas, fold, row

EPOCH = b"e" * 16
PARTITIONS = 6


def test_watermarks_are_told_apart() -> None:
    found = {
        watermark_field(EPOCH, 1): "7",
        begin_field(EPOCH, 1): "3",
        watermark_field(b"f" * 16, 0): "12",
        watermark_field(b"f" * 16, 1): "0",
        begin_field(b"f" * 16, 0): "5",
        "sequence": "9",
    }
    read = Watermarks.read({name.encode(): value.encode() for name, value in found.items()}, EPOCH, 2)
    assert read == ([0, 7], [0, 3], {watermark_field(b"f" * 16, 0): 12}, found)


def test_rows_are_named_and_strangers_reported(store: Store) -> None:
    names = [RowName("default", "v1", cluster) for cluster in range(9)]
    for name in names:
        store.client.set(store.keys.row(name), b"x")
    strangers = [f"om:{{{SHARD}}}:row:default:v1:0:2", "om:{0}:row:torn", "om:{0}:row:default:v1:0:x"]
    for key in [*strangers, "other:{0}:row:default:v1:0:0", "om.replay:{0}:row:default:v1:0:0"]:
        store.client.set(key, b"x")
    assert live.row_names(store) == (names, sorted(strangers))


def test_all_rows_and_totals_are_read_in_pieces(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "ROWS_IN_A_PIECE", 2)
    names = [RowName("default", "v1", cluster) for cluster in range(SHARDS * 3)]
    for name in names[1:]:
        store.client.set(store.keys.row(name), str(name))
    fold(store, deltas(totals={"folded": 2}))
    pieces = list(live.read(store, EPOCH, PARTITIONS, names, totals=True))
    assert [piece.shard for piece in pieces] == [shard for shard in range(SHARDS) for _ in range(2)]
    assert [len(piece.rows) for piece in pieces] == [2, 1] * SHARDS
    assert [piece.totals for piece in pieces] == [
        part for shard in range(SHARDS) for part in ({"folded": 2} if shard == SHARD else {}, None)
    ]
    rows = {name: found for piece in pieces for name, found in piece.rows.items()}
    assert rows == {name: b"" if name == names[0] else str(name).encode() for name in names}
    assert [piece.watermarks.offsets for piece in pieces] == [
        [0, 0, 0, 0, 0, int(piece.shard == SHARD)] for piece in pieces
    ]
    assert list(live.read(store, EPOCH, PARTITIONS, [])) == []

    cut = Cut(store.keys)
    cut.add(pieces)
    assert (cut.least(5), cut.most(5)) == (0, 1)
    assert cut.of_row(RowName("default", "v1", SHARD), 5) == 1
    assert cut.of_row(RowName("never", "read", SHARD), 5) == 1
    assert cut.of_totals(SHARD, 5) == 1
    assert live.watermarks(store, EPOCH, PARTITIONS)[SHARD] == pieces[2 * SHARD].watermarks
    assert live.watermarks_of(store, EPOCH, PARTITIONS, SHARD) == pieces[2 * SHARD].watermarks


def test_a_piece_is_one_moment(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call adds 1 to both rows: whoever reads them finds as much in each as the watermark says."""
    # Questions so long that a server would answer others in their midst.
    monkeypatch.setattr(live, "ROWS_IN_A_PIECE", 5000)
    first, *between, last = [RowName("default", "v1", SHARD + SHARDS * n) for n in range(3000)]
    done = Event()

    def add() -> None:
        at = 0
        while not done.is_set():
            rows = [row({0: (1, 0, 0)}, first.cluster), row({0: (1, 0, 0)}, last.cluster)]
            fold(store, deltas(rows, expected=at, following=at + 1))
            at += 1

    thread = Thread(target=add)
    thread.start()
    try:
        moments: set[int] = set()
        while len(moments) < 30:
            pieces = live.read(store, EPOCH, PARTITIONS, [first, *between, last])
            (piece,) = (piece for piece in pieces if piece.shard == SHARD)
            watermark = piece.watermarks.offsets[5]
            moments.add(watermark)
            held = [int.from_bytes(piece.rows[name][:8], "big") for name in (first, last)]
            assert held == [watermark] * 2
    finally:
        done.set()
        thread.join()
