"""Serving: what an API process holds between requests, and how it comes up while its surroundings may be missing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from bandit.bundle import BundleError
from service.bundles import Bundles
from service.experiment import Experiment
from service.feedback_log import open_log
from service.feedback_log.base import FeedbackLog, LogReset, LogUnavailable
from service.recommender import Recommender
from service.replica import Replica
from service.settings import Settings
from service.store.connection import AsyncConnection
from service.store.keys import Keys
from service.store.redis import Store, connect
from service.store.users import Users

logger = structlog.get_logger(__name__)
WATCH_EVERY_S = 1.0
LOG_CHECK_EVERY = 5


class Serving:
    """The bundle, the replica, the log and the users of one API process.

    Attributes:
        recommender: None until there is a bundle.
        log, epoch: None until the feedback log answers.
        log_error, bundle_error: why not, for readiness.
    """

    def __init__(self, settings: Settings, redis_url: str) -> None:
        self.settings = settings
        self.experiment = Experiment(settings.arms)
        self.verifying_keys = settings.verifying_keys
        self.pseudonym_key = settings.pseudonym_bytes
        self.keys = Keys(settings.key_prefix, settings.shards)
        self.bundles = Bundles(settings.bundles, settings.bundle_wait_s)
        self.users = Users(AsyncConnection(redis_url), self.keys)
        self.recommender: Recommender | None = None
        self.log: FeedbackLog | None = None
        self.epoch: bytes | None = None
        self.log_error: str | None = "not reached yet"
        self.bundle_error: str | None = None
        self._redis_url = redis_url
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Come up as far as possible now; a watch brings the rest."""
        await self._come_up(check_log=True)
        self._watch = asyncio.create_task(self._keep_watching())

    async def stop(self) -> None:
        """Let everything go: what was appended is finished first."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self.recommender is not None:
            await asyncio.to_thread(self.recommender.replica.stop)
        if self.log is not None:
            await asyncio.to_thread(self.log.close)
        await self.users.close()

    async def _keep_watching(self) -> None:
        for beat in _counting():
            await asyncio.sleep(WATCH_EVERY_S)
            await self._come_up(check_log=beat % LOG_CHECK_EVERY == 0 or self.epoch is None)

    async def _come_up(self, *, check_log: bool) -> None:
        """Open what is missing. Files and networks may be slow, so all of it runs beside the event loop."""
        if self.recommender is None:
            await asyncio.to_thread(self._load_bundle)
        if check_log:
            await asyncio.to_thread(self._reach_log)

    def _load_bundle(self) -> None:
        try:
            bundle, error = self.bundles.newest(), None
            store = Store(connect(self._redis_url), self.keys)
            replica = Replica(bundle, self.settings.arms, store, self.settings.frozen_facts)
            replica.start()
            self.recommender = Recommender(self.settings, bundle, replica)
        except (BundleError, OSError) as failure:
            error = str(failure)
        if error is not None and error != self.bundle_error:
            logger.warning("waiting for a bundle", error=error)
        self.bundle_error = error

    def _reach_log(self) -> None:
        try:
            if self.log is None:
                self.log = open_log(self.settings)
            epoch = self.log.epoch()
            if self.epoch not in (None, epoch):
                logger.warning("the feedback log was made anew", epoch=epoch.hex())
            self.epoch, error = epoch, None
        except (LogUnavailable, LogReset) as failure:
            error = str(failure)
        if error is not None and error != self.log_error:
            logger.warning("waiting for the feedback log", error=error)
        self.log_error = error


def _counting() -> Iterable[int]:
    beat = 0
    while True:
        yield beat
        beat += 1
