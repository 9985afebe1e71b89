"""Serving: what an API process holds between requests, and how it comes up while its surroundings may be missing."""

from __future__ import annotations

import asyncio

import structlog

from service import ranker as rankers
from service.bundles import Bundles
from service.experiment import Experiment
from service.feedback_log import open_log
from service.feedback_log.base import FeedbackLog, LogReset, LogUnavailable
from service.recommender import Recommender
from service.settings import Settings
from service.store.connection import AsyncConnection
from service.store.keys import Keys
from service.store.users import Users
from service.switch import Switch

logger = structlog.get_logger(__name__)
SEEK_LOG_EVERY_S = 1.0
CHECK_LOG_EVERY_S = 5.0


class Serving:
    """The bundle, the log and the users of one API process.

    Attributes:
        switch: which bundle is served, and how that changes.
        log, epoch: None until the feedback log answers.
        log_error: why not, for readiness.
    """

    def __init__(self, settings: Settings, redis_url: str) -> None:
        self.settings = settings
        self.experiment = Experiment(settings.arms)
        self.verifying_keys = settings.verifying_keys
        self.pseudonym_key = settings.pseudonym_bytes
        self.keys = Keys(settings.key_prefix, settings.shards)
        self.bundles = Bundles(settings.bundles, settings.bundle_wait_s, rankers.files(settings))
        self.switch = Switch(settings, redis_url, self.bundles)
        self.users = Users(AsyncConnection(redis_url), self.keys)
        self.log: FeedbackLog | None = None
        self.epoch: bytes | None = None
        self.log_error: str | None = "not reached yet"
        self._watch: asyncio.Task[None] | None = None

    @property
    def recommender(self) -> Recommender | None:
        """Serves; None until there is a bundle. Read it once a request: it may be another the next time."""
        return self.switch.recommender

    @property
    def bundle_error(self) -> str | None:
        """Why the bundle that should be served is not."""
        return self.switch.error

    async def start(self) -> None:
        """Come up as far as possible now; watches bring the rest. Files and networks are waited for in threads."""
        await self.switch.start()
        await asyncio.to_thread(self._reach_log)
        self._watch = asyncio.create_task(self._keep_watching())

    async def stop(self) -> None:
        """Let everything go: what was appended is finished first."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self.switch.stop()
        if self.log is not None:
            await asyncio.to_thread(self.log.close)
        await self.users.close()

    async def _keep_watching(self) -> None:
        while True:
            await asyncio.sleep(SEEK_LOG_EVERY_S if self.epoch is None else CHECK_LOG_EVERY_S)
            await asyncio.to_thread(self._reach_log)

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
