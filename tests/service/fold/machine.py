"""The state machine: several folds on one log and one Redis, to which everything happens that may happen.

Its law: in the end Redis holds what one pass over the log comes to, to the bit, and never more than that before.
"""

import random
import sys
from collections import Counter
from typing import ClassVar

import redis
import structlog
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant
from pydantic import SecretStr
from structlog.testing import LogCapture

from service.feedback_log.base import LogUnavailable
from service.settings import Settings
from service.store.redis import Store
from tests.service.fold import model as models
from tests.service.fold.bundles import publish
from tests.service.fold.faults import Crash, Dump, Interruption, dump, restore
from tests.service.fold.logs import NOW_MS, PARTITIONS
from tests.service.fold.members import Member
from tests.service.fold.memory_log import Failure, Topic
from tests.service.fold.model import Model
from tests.service.fold.producer import NEXT_VERSION, Producer
from tests.service.fold.rules import counted
from tests.service.fold.slates import LIFE_S
from tests.service.fold.standstill import Standstill
from tests.service.tokens import KEYS, PSEUDONYM_KEY, VERSION

FOLDS = 3
SHARDS = 3
ROUNDS = 400  # within which folds that nobody disturbs must be done
COPIES = 4
MOST_EDGES = 64
RETENTION_MS = 1000 * (LIFE_S + 61)

folds = st.integers(0, FOLDS - 1)
partitions = st.integers(0, PARTITIONS - 1)
said = st.integers(0, 8)
seeds = st.integers(0, 2**32 - 1)
batches = st.sampled_from([1, 2, 5, 30])
reached = st.integers(0, SHARDS)
copies = st.integers(0, COPIES - 1)
some_shards = st.sets(st.integers(0, SHARDS - 1), min_size=1)


class FoldMachine(RuleBasedStateMachine):
    """Drives the folds against the model; `settings` and `store` are given by `machine`."""

    settings: ClassVar[Settings]
    store: ClassVar[Store]
    ran: ClassVar[Counter[str]]
    told: ClassVar[Counter[str]]

    @initialize(window=st.sampled_from([3, 8, 16, 64]))
    def begin(self, window: int) -> None:
        self.ran["examples"] += 1
        self.logs = LogCapture()
        self._configuration = structlog.get_config()
        structlog.configure(processors=[self.logs])
        self.store.client.flushall()
        self._settings = self.settings.model_copy(update={"window_records": window})
        self.topic = Topic(PARTITIONS, NOW_MS)
        self.model = Model(PARTITIONS, window, self.topic.epoch)
        self.producer = Producer(self.topic, self.model)
        self.store.prepare(self._settings.frozen_facts)
        self.copies: list[dict[int, Dump]] = [dump(self.store)]
        self.members = [self._member() for _ in range(FOLDS)]

    # What is said.

    @counted(said=said, seed=seeds)
    def write(self, said: int, seed: int) -> None:
        self._write(said, seed)

    @counted(partition=partitions, back=st.integers(0, 12) | st.integers(0, 80), count=st.integers(1, 4))
    def repeat(self, partition: int, back: int, count: int) -> None:
        self.producer.repeat(partition, back, count)

    @counted()
    def activate_bundle(self) -> None:
        self.producer.version = NEXT_VERSION

    # What folds do.

    @counted(fold=folds, steps=st.integers(1, 3), batch=batches, said=said, seed=seeds)
    def step(self, fold: int, steps: int, batch: int, said: int, seed: int) -> None:
        for number in range(steps):
            self._write(said, seed + number)
            self._step(fold, batch)

    @counted(fold=folds)
    def crash(self, fold: int) -> None:
        self._replace(fold)

    @counted(fold=folds, reached=reached, dies=st.booleans(), batch=batches, said=said, seed=seeds)
    def cut_off(self, fold: int, reached: int, dies: bool, batch: int, said: int, seed: int) -> None:
        """The function calls of a step are cut off: the fold crashes there, or hears nothing more of Redis."""
        error = Crash() if dies else redis.ConnectionError("on purpose")

        def strike() -> None:
            self.ran["cut off"] += 1
            raise error

        self._write(said, seed)
        self.members[fold].store.interruption = Interruption(reached, strike)
        self._step(fold, batch)

    @counted(fold=folds, call=st.sampled_from(["poll", "read", "letters"]), dies=st.booleans(), said=said, seed=seeds)
    def fail_in_log(self, fold: int, call: str, dies: bool, said: int, seed: int) -> None:
        """The log is away for one call of a step, or the fold crashes in it; dead letters are half kept by then."""
        self._write(said, seed)
        self.members[fold].log.failure = Failure(call, Crash() if dies else LogUnavailable("on purpose"))
        self._step(fold)

    @counted(fold=folds, times=st.integers(1, 2))
    def do_not_answer(self, fold: int, times: int) -> None:
        """Redis does not tell its watermarks."""
        self.members[fold].store.unanswered = times
        self._step(fold)

    # Who folds.

    @counted(fold=folds, said=said, seed=seeds)
    def zombie(self, fold: int, said: int, seed: int) -> None:
        """A fold is put out of the group with records in its hands, and will go on with them when it next steps."""
        self._write(said, seed)
        subscription = self.members[fold].log.subscription
        assert subscription is not None
        subscription.fetch()
        self.topic.put_out(subscription)

    @counted()
    def rebalance(self) -> None:
        self.topic.rotate()

    @counted(
        fold=folds,
        reached=reached,
        batch=batches,
        others=st.lists(folds, max_size=6),
        shards=st.sets(st.integers(0, SHARDS - 1)),
        copy=copies,
        said=said,
        seed=seeds,
    )
    def pause_in_batch(
        self, fold: int, reached: int, batch: int, others: list[int], shards: set[int], copy: int, said: int, seed: int
    ) -> None:
        """A fold stands still between two shards' calls; meanwhile others take over, and Redis may go back."""

        def meanwhile() -> None:
            self.ran["paused"] += 1
            subscription = self.members[fold].log.subscription
            assert subscription is not None
            self.topic.put_out(subscription)
            for number, other in enumerate(others):
                self._step(other)
                if number == 1:
                    self._go_back(shards, copy)
                    self._write(said, seed + 1)

        self._write(said, seed)
        self.members[fold].store.interruption = Interruption(reached, meanwhile)
        self._step(fold, batch)

    # What becomes of Redis and the log.

    @counted()
    def copy(self) -> None:
        self.copies = [*self.copies, dump(self.store)][-COPIES:]

    @counted(shards=some_shards | st.just(set(range(SHARDS))), copy=copies)
    def go_back(self, shards: set[int], copy: int) -> None:
        """Redis restarts and has forgotten; the masters of a cluster may each forget something else."""
        self._go_back(shards, copy)

    @counted()
    def lose_functions(self) -> None:
        self.store.client.function_flush()

    @counted(seconds=st.integers(1, 300))
    def retain(self, seconds: int) -> None:
        """Retention takes what nobody will need: older than any token that still counts, folded in every copy."""
        self.topic.now_ms += 1000 * seconds
        self.topic.starts = [max(pair) for pair in zip(self.topic.starts, self._needed(), strict=True)]
        self.copies = [copy for copy in self.copies if self._reaches(copy)] or [dump(self.store)]

    # What must stop by its name.

    @counted(back=st.integers(1, 5), partition=partitions)
    def lose_end(self, back: int, partition: int) -> None:
        """The log loses records that were folded. Its operator brings them back."""
        self._finish()
        records = self.topic.records[partition]
        kept = max(len(records) - back, self.topic.starts[partition])
        if kept == len(records):
            return
        self.topic.records[partition] = records[:kept]
        with Standstill(self, [partition], "beyond the log's end"):
            self._step_all()
            self._restart_all()
        self.topic.records[partition] = records
        self._restart_all()
        self._settle()

    @counted(copy=copies)
    def lose_start(self, copy: int) -> None:
        """Retention takes records that Redis, which went back, lacks. Its operator has copies of both."""
        self._finish()
        starts, newest = list(self.topic.starts), dump(self.store)
        self._go_back(set(range(SHARDS)), copy)
        lacking = [p for p, position in enumerate(self.positions()) if position < len(self.topic.records[p])]
        for partition in lacking:
            self.topic.starts[partition] = len(self.topic.records[partition])
        with Standstill(self, lacking, "before the log's start"):
            self._restart_all()
        self.topic.starts = starts
        restore(self.store, newest, range(SHARDS))
        self._restart_all()
        self._settle()

    @counted(filled=st.booleans())
    def make_topic_anew(self, filled: bool) -> None:
        """The topic is deleted and created, perhaps filled again from elsewhere. Its operator restarts the folds."""
        self._finish()
        self._step_all()
        old = [[(record.key, record.value) for record in records] for records in self.topic.records]
        self.topic.make_anew()
        self.model.begin_anew(self.topic.epoch)
        with Standstill(self, range(PARTITIONS), "made anew" if filled else ""):
            for partition, records in enumerate(old if filled else []):
                for key, value in records:
                    self.model.append(partition, self.topic.append(partition, key, value))
            self._step_all()
        self.copies = [dump(self.store)]
        self._restart_all()
        self._finish()

    # What must hold.

    @counted()
    def finish(self) -> None:
        """Nobody disturbs them until all is folded."""
        self._finish()

    @invariant()
    def nothing_counts_twice(self) -> None:
        self.ran["steps"] += 1
        exceeded = self.model.exceeded_by(models.live(self.store))
        assert not exceeded, f"counted twice: {exceeded}"
        unfounded = self.topic.letters - self.model.letters
        assert not unfounded, f"dead letters without reason: {unfounded}"

    def teardown(self) -> None:
        if not hasattr(self, "members"):
            return
        try:
            if sys.exception() is None:
                self._finish()
            self.told.update(entry["event"] for entry in self.logs.entries)
        finally:
            structlog.configure(**self._configuration)

    def _write(self, count: int, seed: int) -> None:
        self.producer.write(count, random.Random(seed))
        self.ran["records"] += count

    def _member(self) -> Member:
        return Member(self._settings, self.topic, self.store.client)

    def _replace(self, fold: int) -> None:
        """Another process takes a dead one's place."""
        subscription = self.members[fold].log.subscription
        assert subscription is not None
        self.topic.put_out(subscription)
        self.members[fold] = self._member()

    def _restart_all(self) -> None:
        for fold in range(FOLDS):
            self._replace(fold)
        self._step_all()

    def _step_all(self) -> None:
        for _ in range(2):
            for fold in range(FOLDS):
                self._step(fold)

    def _step(self, fold: int, batch: int = 5) -> None:
        member = self.members[fold]
        if member.busy:  # it is the one that stands still
            return
        assert member.log.subscription is not None
        member.log.subscription.batch = batch
        member.busy = True
        try:
            member.adding.catch_up()
            member.process.step()
        except Crash:
            self._replace(fold)
        finally:
            member.busy = False
        member.log.failure, member.store.unanswered = None, 0

    def _go_back(self, shards: set[int], copy: int) -> None:
        restore(self.store, self.copies[copy % len(self.copies)], shards)

    def positions(self) -> list[int]:
        """The least watermark of each partition."""
        found = self.store.watermarks(self.topic.epoch, range(PARTITIONS))
        return [min(found[partition]) for partition in range(PARTITIONS)]

    def _needed(self) -> list[int]:
        """Where each partition's log must begin, so that no token of an earlier record counts from its watermark on."""
        needed = []
        for partition, (records, position) in enumerate(zip(self.topic.records, self.positions(), strict=True)):
            now_ms = records[position].append_ms if position < len(records) else self.topic.now_ms
            young = (record.offset for record in records if record.append_ms >= now_ms - RETENTION_MS)
            # Nor does it pass a fold that reads: whoever sleeps for that long is no member any more.
            needed.append(min(position, next(young, position), *self.topic.read_at(partition)))
        return needed

    def _reaches(self, copy: dict[int, Dump]) -> bool:
        """Whether the log still holds what a copy lacks, and the window before that."""
        now = dump(self.store)
        restore(self.store, copy, range(SHARDS))
        needed = self._needed()
        restore(self.store, now, range(SHARDS))
        return all(first >= start for first, start in zip(needed, self.topic.starts, strict=True))

    def _finish(self) -> None:
        for _ in range(ROUNDS):
            if self._is_done():
                break
            for fold in range(FOLDS):
                self._step(fold, 30)
        self._settle()

    def _is_done(self) -> bool:
        return self.positions() == [len(records) for records in self.topic.records]

    def _settle(self) -> None:
        """Compare everything, to the bit."""
        assert self._is_done(), "not done in time"
        found = models.with_users(self.store, models.live(self.store))
        due = self.model.outcome(self._settings.seen_items)
        for name in due._fields:
            have, want = getattr(found, name), getattr(due, name)
            unlike = {key: (have.get(key), want.get(key)) for key in have | want if have.get(key) != want.get(key)}
            assert not unlike, f"{name}, as held and as due: {unlike}"
        missing = self.model.letters - self.topic.letters
        assert not missing, f"dead letters are missing: {missing}"
        self.ran["comparisons"] += 1


def machine(store: Store, bundles: str) -> type[FoldMachine]:
    """The machine on this store, publishing its bundles there; counts of what ran and was logged are its own."""
    for version in (VERSION, NEXT_VERSION):
        publish(bundles, version)
    settings = Settings(
        _env_file=None,
        token_keys={key_id: SecretStr(key.decode()) for key_id, key in KEYS.items()},
        pseudonym_key=SecretStr(PSEUDONYM_KEY.decode()),
        key_prefix=store.keys.prefix,
        shards=store.keys.shards,
        partitions=PARTITIONS,
        bundles=bundles,
        bundle_wait_s=0,
        log_retention_s=10**12,  # its own clock is not this machine's; `retain` keeps to what the fold demands
        batch_records=30,
        seen_items=3,
        recent_items=3,
    ).model_copy(update={"call_edges": MOST_EDGES})  # fewer than production may set, so that batches are halved
    facts = {"settings": settings, "store": store, "ran": Counter(), "told": Counter()}
    return type("Folds", (FoldMachine,), facts)
