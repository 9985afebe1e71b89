"""A run: producers write, the scheduler hurts, the watch looks; then all is folded and compared with the log."""

import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from rich.console import Console
from rich.live import Live
from rich.table import Table

from tests.chaos.plan import Round, draw
from tests.chaos.processes import told
from tests.chaos.producers import Producers
from tests.chaos.system import Faults, System
from tests.chaos.verdict import compare, read_log, served
from tests.chaos.watch import Watch
from tests.chaos.world import PSEUDONYMS, SECRETS, World
from tests.service.servers import until
from tests.service.single_pass import Repeat, statistics_in, whole_log

DRAIN_S = 120.0
LEVEL_S = 30.0
PROOFS = ("rolled_back_offsets", "late", "implied", "duplicates_across_restarts", "fenced_writes")


class Run(NamedTuple):
    """How long producers write, how fast (records a second), by which seed, and what befalls the system meanwhile."""

    seconds: float
    rate: float
    seed: int
    plan: Sequence[tuple[int, Round]]


class Report(NamedTuple):
    """The issue's figures, and whatever else was not as it must be."""

    figures: dict[str, Any]
    complaints: list[str]


def carry_out(system: System, faults: Faults, run: Run, console: Console) -> Report:
    """Run it all."""
    store = system.store()
    watch = Watch(store, system.epoch, system.settings.partitions)
    world = World(run.seed, system.epoch, SECRETS, PSEUDONYMS)
    producers = Producers(world, system.send, system.url, system.settings.partitions, run.rate, run.seed)
    producers.version = faults.version
    try:
        _traffic(run, faults, watch, producers, console)
        console.print(f"{producers.events} events in {producers.records} records, {producers.over_http} over HTTP")
        faults.calm()
        system.flush()
        drained_s = _drain(system, faults, watch)
        console.print(f"all folded {drained_s:.1f} s later; reading the log once more")
        watch.stop()
        return _judge(system, run, faults, watch, producers, console)
    finally:
        producers.stop()
        watch.stop()
        faults.close()
        store.close()


def _traffic(run: Run, faults: Faults, watch: Watch, producers: Producers, console: Console) -> None:
    """Write and hurt, by the plan."""
    plan = draw(run.seed, run.seconds, run.plan)
    began = time.monotonic()
    producers.start()
    with Live(console=console, refresh_per_second=2, transient=True) as live:
        # A slow machine leaves some of the plan for the end.
        while (now_s := time.monotonic() - began) < run.seconds or plan:
            faults.look()
            live.update(_table(now_s, run, faults, watch, producers))
            if plan and plan[0].at_s <= now_s:
                due = plan.pop(0)
                console.print(f"{now_s:6.1f} s  {', '.join(f'{many} {kind}' for kind, many in due.faults.items())}")
                for kind, many in due.faults.items():
                    faults.happen(kind, many)
                producers.version = faults.version
            time.sleep(0.1)
    producers.stop()


def _drain(system: System, faults: Faults, watch: Watch) -> float:
    """Wait until every record is folded; how long that took."""
    began = time.monotonic()
    log = system.log
    ends = [log.bounds(partition)[1] for partition in range(log.partitions)]

    def done() -> bool:
        faults.look()
        return bool(watch.samples) and watch.samples[-1].positions.tolist() == ends

    until(done, DRAIN_S)
    return time.monotonic() - began


def _judge(system: System, run: Run, faults: Faults, watch: Watch, producers: Producers, console: Console) -> Report:
    rules = {
        "keys": {key_id: secret.encode() for key_id, secret in SECRETS.items()},
        "pseudonym_key": PSEUDONYMS.encode(),
        "epoch": system.epoch,
        "partitions": system.settings.partitions,
        "window": system.settings.window_records,
    }
    outcome, repeats = read_log(whole_log(system.log), rules)
    store = system.store()
    held, totals = statistics_in(store.client, store.keys.prefix), store.totals()
    store.close()
    comparison = compare(held, outcome.statistics)
    complaints = [*system.died(), *producers.failures]
    if totals != outcome.totals:
        complaints.append(f"totals in Redis {totals}, by the log {outcome.totals}")
    letters = system.dead_letters()
    if letters != outcome.dead_letters:
        complaints.append(
            f"{len(outcome.dead_letters - letters)} dead letters are missing, "
            f"{len(letters - outcome.dead_letters)} have no reason"
        )
    differing: list[str] = ["not asked"]

    def level() -> bool:
        differing[:] = served(system.url, outcome.statistics)
        return not differing

    try:
        until(level, LEVEL_S)
    except AssertionError:
        complaints.append(f"the API differs in {len(differing)} edges: {differing[0]}")
    recoveries = [(kind, watch.recovery_s(at)) for kind, at in faults.killed_at]
    known = sorted(seconds for _, seconds in recoveries if seconds is not None)
    for kind in sorted({kind for kind, _ in recoveries}):
        of_kind = [seconds for what, seconds in recoveries if what == kind and seconds is not None]
        if of_kind:
            console.print(f"recovery from {kind}: median {statistics.median(of_kind):.1f} s, max {max(of_kind):.1f} s")
    events = [entry for log in system.fold_logs() for entry in told(log)]
    figures = {
        "events_written": sum(
            outcome.totals.get(name, 0) for name in ("folded", "duplicates", "late", "dead_lettered")
        ),
        "unique_valid": outcome.totals.get("folded", 0),
        "duplicates": outcome.totals.get("duplicates", 0),
        "dead_lettered": outcome.totals.get("dead_lettered", 0),
        "kills": {kind: faults.kills[kind] for kind in ("fold", "redis", "broker", "zombie")},
        "edges_compared": comparison.edges,
        "edges_different": comparison.different,
        "lost": comparison.lost,
        "counted_twice": comparison.counted_twice,
        "recovery_s": {"p50": round(statistics.median(known), 2), "max": round(known[-1], 2)} if known else None,
        "rolled_back_offsets": faults.rolled_back,
        "late": outcome.totals.get("late", 0),
        "implied": outcome.totals.get("implied", 0),
        "duplicates_across_restarts": across_restarts(repeats, takeovers(events, watch)),
        "fenced_writes": sum(entry["event"] == "fenced" for entry in events),
        "seed": run.seed,
    }
    return Report(figures, complaints)


def takeovers(events: Sequence[Mapping[str, Any]], watch: Watch) -> dict[int, list[tuple[int, int]]]:
    """Partition → where its watermark stood just before and after each time that a fold took it over."""
    found: dict[int, list[tuple[int, int]]] = {}
    for entry in events:
        if entry["event"] == "partitions assigned":
            at = datetime.fromisoformat(entry["timestamp"]).timestamp()
            for partition in entry["partitions"]:
                if (stood := watch.around(at, partition)) is not None:
                    found.setdefault(partition, []).append(stood)
    return found


def across_restarts(repeats: Sequence[Repeat], taken: Mapping[int, Sequence[tuple[int, int]]]) -> int:
    """Duplicates whose first copy one fold had folded when another took over, which met the second copy."""
    return sum(
        any(first < before and second >= after for before, after in taken.get(partition, ()))
        for partition, first, second in repeats
    )


def _table(now_s: float, run: Run, faults: Faults, watch: Watch, producers: Producers) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row(f"{now_s:5.0f} of {run.seconds:.0f} s", f"seed {run.seed}", f"{producers.events:,} events written")
    behind = producers.records - watch.folded
    table.add_row(f"{watch.folded:,} records folded", f"{behind:,} behind", f"{dict(faults.kills)}")
    return table
