"""The switch: which bundle this server serves, and how it changes to another while it serves.

Operators pin a version (`service.store.active`); without that the newest whole bundle is served. The next bundle is
loaded, verified and brought level with Redis beside the event loop, then requests begin to use it. Those in flight
finish on the one they began with.
"""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

import redis
import structlog

from bandit.bundle import Bundle, BundleError
from service import metrics
from service import ranker as rankers
from service.bundles import Bundles
from service.recommender import Recommender
from service.replica import Replica
from service.settings import Settings
from service.store.active import NOTHING, Active, Change
from service.store.keys import Keys
from service.store.redis import Store, StoreError, connect

logger = structlog.get_logger(__name__)
WATCH_EVERY_S = 1.0
LEVEL_WITHIN_S = 30.0
STORE_FAILURES = (redis.RedisError, StoreError)


class Conflict(Exception):  # noqa: N818 - names what happened
    """What is asked for does not fit what is active; the message says what is."""


class NotLevel(Exception):  # noqa: N818 - names what happened
    """A bundle's statistics could not be read from Redis in time."""


class Ready(NamedTuple):
    """Who can serve a bundle, and what is missing of what should be there, and why."""

    recommender: Recommender
    missing: str | None


class Switch:
    """What is served, and the changes to it.

    Attributes:
        recommender: serves; None until there is a bundle.
        asked: what operators asked for, as last read.
        error: why what should be served is not, or None.
        missing: what the served bundle does not inherit or lacks, and why, or None.
    """

    def __init__(self, settings: Settings, redis_url: str, bundles: Bundles) -> None:
        self.recommender: Recommender | None = None
        self.asked = NOTHING
        self.error: str | None = None
        self.missing: str | None = None
        self._settings = settings
        self._redis_url = redis_url
        self._keys = Keys(settings.key_prefix, settings.shards)
        self._bundles = bundles
        self._active = Active(Store(connect(redis_url), self._keys))
        self._changing = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None

    @property
    def version(self) -> str | None:
        """What is served."""
        recommender = self.recommender
        return None if recommender is None else recommender.bundle.manifest.version

    async def start(self) -> None:
        """Serve what can be served now, and keep watching."""
        await self._follow()
        self._watch = asyncio.create_task(self._keep_watching())

    async def stop(self) -> None:
        """End what goes on, and serve no more."""
        self._stopping.set()
        if self._watch is not None:
            await self._watch
        async with self._changing:
            if self.recommender is not None:
                metrics.BUNDLE_INFO.remove(self.version)
                await asyncio.to_thread(self.recommender.replica.stop)
            await asyncio.to_thread(self._active.close)

    async def activate(self, version: str, revision: int | None = None) -> None:
        """Pin a version, here at once and on every other server when it sees it.

        Args:
            version: of a bundle under the root.
            revision: the number of the change that the caller knew of, if it matters to him.

        Raises:
            UnknownBundle, BundleError: there is none, or it is broken.
            Conflict: somebody else changed what is active since `revision`, or meanwhile.
            NotLevel, redis.RedisError, StoreError: Redis is away.
        """
        async with self._changing:
            asked = await self._asked(revision)
            if asked.version != version or self.version != version:
                await self._change(asked, version, rollback=False)

    async def roll_back(self, version: str, revision: int | None = None) -> None:
        """Pin what was active before `version`, which must be what is active now. Raises as `activate` does."""
        async with self._changing:
            asked = await self._asked(revision)
            active = asked.version or self.version
            if version != active:
                raise Conflict(f"{version} is not active, {active} is: name the version to roll back from")
            history = await asyncio.to_thread(self._active.history)
            activated = (change for change in history if change.version == version and not change.rollback)
            replaced = (change.instead_of for change in activated if change.instead_of not in (None, version))
            # What came as the newest replaced the one that was the newest until then.
            before = next(replaced, None) or await asyncio.to_thread(self._bundles.before, version)
            if before is None:
                raise Conflict(f"nothing was active before {version}")
            await self._change(asked, before, rollback=True)

    async def unpin(self, revision: int | None = None) -> None:
        """Serve the newest bundle again, whichever that is. Raises as `activate` does."""
        async with self._changing:
            asked = await self._asked(revision)
            if asked.version is not None:
                self.asked = await self._ask(asked, None, rollback=False)
            await self._serve(await asyncio.to_thread(self._due))

    async def changes(self) -> list[Change]:
        """All that operators asked for, newest first. Raises redis.RedisError, StoreError."""
        return await asyncio.to_thread(self._active.history)

    async def _keep_watching(self) -> None:
        while not self._stopping.is_set():
            try:
                await asyncio.wait_for(self._stopping.wait(), WATCH_EVERY_S)
            except TimeoutError:
                try:
                    await self._follow()
                except Exception:
                    logger.exception("looking for bundles failed")

    async def _follow(self) -> None:
        """Take up what operators asked for, or the newest bundle."""
        async with self._changing:
            try:
                self.asked = await asyncio.to_thread(self._active.current)
            except STORE_FAILURES:
                if self.recommender is not None:
                    return  # what is served goes on; readiness names redis
            await self._serve(await asyncio.to_thread(self._due))

    async def _asked(self, revision: int | None) -> Change:
        self.asked = await asyncio.to_thread(self._active.current)
        if revision is not None and revision != self.asked.revision:
            raise Conflict(f"what is active was changed, to {_told(self.asked)}: look again")
        return self.asked

    async def _change(self, asked: Change, version: str, *, rollback: bool) -> None:
        """Verify a version, pin it, serve it: in this order."""
        candidate = None
        if version != self.version:
            candidate = await asyncio.to_thread(self._prepared, version)
        try:
            self.asked = await self._ask(asked, version, rollback=rollback)
        except BaseException:
            if candidate is not None:
                await asyncio.to_thread(candidate.recommender.replica.stop)
            raise
        self.error = None
        await self._serve(candidate)

    async def _ask(self, asked: Change, version: str | None, *, rollback: bool) -> Change:
        change = await asyncio.to_thread(self._active.change, asked, version, self.version, rollback=rollback)
        if change is None:
            now = await asyncio.to_thread(self._active.current)
            raise Conflict(f"somebody else was faster: what is active was changed, to {_told(now)}")
        logger.info("what is active was changed", **change.model_dump(exclude={"id"}))
        return change

    async def _serve(self, ready: Ready | None) -> None:
        """Change to another bundle, if there is one to change to."""
        if ready is None:
            return
        before, (self.recommender, self.missing) = self.recommender, ready
        version = ready.recommender.bundle.manifest.version
        metrics.BUNDLE_INFO.labels(version).set(1)
        logger.info("bundle served", version=version, before=before and before.bundle.manifest.version)
        if before is not None:
            metrics.BUNDLE_INFO.remove(before.bundle.manifest.version)
            await asyncio.to_thread(before.replica.stop)
            before.publish()

    def _due(self) -> Ready | None:
        """What should be served in place of what is, ready to do so; None if there is nothing to change."""
        version = self.asked.version
        try:
            if version is None:
                served = self.version
                bundle = self._bundles.newest() if served is None else self._bundles.newer(served)
            else:
                bundle = None if version == self.version else self._bundles.try_load(version)
            due, error = None if bundle is None else self._ready(bundle), None
        except (BundleError, OSError, NotLevel) as failure:
            due, error = None, str(failure)
        if error is not None and error != self.error:
            logger.warning("a bundle that should be served is not", serving=self.version, error=error)
        self.error = error
        return due

    def _prepared(self, version: str) -> Ready:
        return self._ready(self._bundles.load(version))

    def _ready(self, bundle: Bundle) -> Ready:
        """A recommender that knows what Redis knows; where nothing is served yet, one that is about to learn it."""
        settings = self._settings
        generations, missing = self._bundles.descent(bundle, settings.generations)
        ranker, lacking = rankers.of(settings, bundle)
        store = Store(connect(self._redis_url), self._keys)
        replica = Replica(bundle, settings.arms, store, settings.frozen_facts, generations)
        recommender = Recommender(settings, bundle, replica, ranker)
        replica.start()
        if self.recommender is not None:
            deadline = time.monotonic() + LEVEL_WITHIN_S
            while not replica.level.wait(0.1):
                if self._stopping.is_set() or time.monotonic() > deadline:
                    replica.stop()
                    raise NotLevel(f"{bundle.manifest.version} is not served: {replica.error or 'Redis is slow'}")
        return Ready(recommender, "; ".join(filter(None, (missing, lacking))) or None)


def _told(change: Change) -> str:
    return f"{change.version or 'the newest'} (revision {change.revision})"
