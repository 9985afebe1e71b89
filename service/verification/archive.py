"""The archive: where passes leave their snapshots, and which of them a pass may go on from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

import fsspec
import structlog

from service.store.keys import watermark_field
from service.verification.live import Watermarks
from service.verification.snapshot import Facts, SnapshotRefused, decode, encode
from service.verification.state import Beginning, State

logger = structlog.get_logger(__name__)
KEPT = 3
LOG_START = "log start"


class Unverifiable(Exception):  # noqa: N818 - names what happened
    """What is live cannot be compared with the log; the message says why, and what to do."""


class Start(NamedTuple):
    """Where a pass starts: a snapshot's name, or `LOG_START`."""

    name: str
    state: State


class Archive:
    """The snapshots of one prefix under one root (a folder or any fsspec address)."""

    def __init__(self, root: str, facts: Facts, key: bytes) -> None:
        self._fs, path = fsspec.core.url_to_fs(root)
        self._path = path.rstrip("/")
        self._root = root
        self._facts = facts
        self._key = key

    def names(self) -> list[str]:
        """Newest first: their names begin with their time."""
        self._fs.invalidate_cache()
        # No prefix holds an @, so none is taken for the beginning of another.
        found = self._fs.glob(f"{self._path}/{self._facts.prefix}@*.snapshot")
        return sorted((str(path).rsplit("/", 1)[1] for path in found), reverse=True)

    def load(self, name: str) -> State:
        """Read a snapshot. Raises SnapshotRefused."""
        try:
            content = self._fs.cat_file(f"{self._path}/{name}")
        except FileNotFoundError as error:
            raise SnapshotRefused("it is gone") from error
        return decode(content, self._facts, self._key)

    def keep(self, state: State) -> str:
        """Write a snapshot, let the oldest go, and answer its name."""
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        name = f"{self._facts.prefix}@{now}.snapshot"
        # A reader may look at any moment: the name appears when the file is whole. Object stores write whole files.
        partial = f"{self._path}/.{name}.partial"
        self._fs.makedirs(self._path, exist_ok=True)
        self._fs.pipe_file(partial, encode(state, self._facts, self._key))
        self._fs.mv(partial, f"{self._path}/{name}")
        for old in self.names()[KEPT:]:
            with suppress(FileNotFoundError):  # another pass was faster
                self._fs.rm_file(f"{self._path}/{old}")
        return name

    def start(self, beginning: Beginning, watermarks: Sequence[Watermarks], firsts: Sequence[int]) -> Start:
        """The newest snapshot that can be gone on from, else the log's start.

        Args:
            beginning: where counting of the log began, as Redis says.
            watermarks: of every shard, as they stand.
            firsts: for every partition the first offset that the log holds.

        Raises:
            Unverifiable: there is none, and the log does not reach back to where counting began.
        """
        misfits: dict[str, str] = {}
        for name, state in self._states(misfits):
            misfit, found = _fitted(state, beginning, watermarks, firsts)
            if found is not None:
                return Start(name, found)
            misfits[name] = misfit
            logger.info("snapshot does not fit", snapshot=name, why=misfit)
        misfit, found = _fitted(State.at(beginning._replace(earlier={})), beginning, watermarks, firsts)
        if found is not None:
            return Start(LOG_START, found)
        raise Unverifiable(
            "; ".join(f"{name}: {why}" for name, why in ({LOG_START: misfit} | misfits).items())
            + f". What is live under {self._facts.prefix} rests on records that neither the log nor a snapshot in"
            f" {self._root} covers. Restore the snapshots, or replay the log into another prefix (python -m service"
            " fold --replay-from earliest) and make that one live. To be safe from this, let `verify` run more often"
            " than LOG_RETENTION_S, and once before a log is made anew"
        )

    def _states(self, misfits: dict[str, str]) -> Iterator[tuple[str, State]]:
        for name in self.names():
            try:
                yield name, self.load(name)
            except SnapshotRefused as error:
                misfits[name] = str(error)
                logger.warning("snapshot refused", snapshot=name, error=str(error))


def _fitted(
    state: State, beginning: Beginning, watermarks: Sequence[Watermarks], firsts: Sequence[int]
) -> tuple[str, State | None]:
    """The state made ready to be gone on from, or why it cannot be."""
    if state.beginning.epoch != beginning.epoch:
        if state.left() != beginning.earlier:
            return "it is of an earlier log epoch, of which more was folded later", None
        state = state.carried_over(beginning)
    elif state.beginning.earlier != beginning.earlier:
        return "statistics of an earlier log epoch are not in it", None
    elif not (state.beginning.offsets == beginning.offsets).all():
        return "counting began elsewhere", None
    for partition, (position, first) in enumerate(zip(state.positions, firsts, strict=True)):
        if position < first:
            return f"partition {partition}: the log's start has moved to {first}, past its position {position}", None
        for shard, found in enumerate(watermarks):
            if found.offsets[partition] < position:
                return f"shard {shard}: {_behind(beginning.epoch, partition, found.offsets[partition], position)}", None
    return "", state


def _behind(epoch: bytes, partition: int, watermark: int, position: int) -> str:
    return f"watermark {watermark_field(epoch, partition)} is {watermark}, it has counted up to {position}"
