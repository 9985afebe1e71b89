"""`python -m loadtest.demo`: train, serve, and watch the service learn from simulated users."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn
from urllib.parse import quote

import orjson
import pyarrow.parquet as pq
import rich.live
import typer
from rich.console import Console
from rich.markup import escape

from bandit import bundle as bundles
from bandit.bundle import Bundle, BundleError
from bandit.policies import DEFAULT_POLICY
from loadtest import plot, report
from loadtest.live import Live, final_table
from loadtest.local_service import LocalService, ServiceFailed, end_on_sigterm
from loadtest.monitor import OUTCOMES, Monitor
from loadtest.traffic import Traffic, TrafficError
from loadtest.world import World
from offline.data import online_retail
from service.settings import Environment, Settings

WORLD_SEED = 20261124
TRAINING = Path(__file__).with_name("demo.toml")
FOLD_WITHIN_S = 30.0
CAUGHT_UP_WITHIN_S = 60.0
SETTLED_S = 1.5
LINE_EVERY_S = 10.0
# Each learns from its own traffic alone; the first is the default.
POLICIES = {"default": DEFAULT_POLICY} | {name: name for name in ("diag_linucb", "greedy", "popular", "random")}

console = Console(highlight=False)
cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Run:
    """How a demo runs.

    Attributes:
        seconds: of traffic.
        concurrency: visits under way at once.
        report: where the summary and the plot go.
        timings: seconds of what came before the traffic, for the summary.
    """

    seconds: float
    concurrency: int
    seed: int
    report: Path
    timings: Mapping[str, float]


@cli.command()
def main(
    seconds: Annotated[float, typer.Option(min=1, help="Seconds of traffic.")] = 90,
    root: Annotated[str, typer.Option("--bundles", help="Where bundles are published.")] = "bundles",
    state: Annotated[Path, typer.Option(help="State folder of the demo's service.")] = Path("state/demo"),
    report_folder: Annotated[Path, typer.Option("--report", help="Where the report goes.")] = Path("demo-report"),
    seed: Annotated[int, typer.Option(help="Seed of the traffic and of the service's own chance.")] = 1,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Visits under way at once.")] = 12,
    install_seconds: Annotated[float, typer.Option(help="What the installation took, for the summary.")] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Go on with what the last demo learned.")] = False,
    keep_serving: Annotated[bool, typer.Option("--keep-serving", help="Serve on, until Ctrl-C.")] = False,
) -> None:
    """Train on real purchases, serve, send simulated users through the HTTP API, and report what was learned."""
    end_on_sigterm()
    train_seconds = train(root)
    try:
        with LocalService(state, environment(root, seed), keep=keep) as service:
            with console.status("Fitting simulated users to purchases that the trainer never saw"):
                bundle = bundles.load(root, bundles.versions(root)[-1])
                events = pq.read_table(online_retail.events())
                world = World.fit(events, online_retail.TEST_START, WORLD_SEED, bundle.item_ids)
            run = Run(seconds, concurrency, seed, report_folder, {"install": install_seconds, "train": train_seconds})
            balanced = asyncio.run(drive(service, world, bundle, run))
            _where_to_look(service, bundle, report_folder, running=keep_serving)
            if keep_serving:
                service.wait()
    except (ServiceFailed, TrafficError, BundleError, ValueError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    raise typer.Exit(0 if balanced else 1)


def train(root: str) -> float:
    """Publish a bundle under `root` unless there is one; the seconds it took, 0 when there was one."""
    if found := bundles.versions(root):
        console.print(f"Bundle {found[-1]} is there already; `make train` makes a new one.")
        return 0.0
    began = time.monotonic()
    command = [sys.executable, "-m", "offline", "run", "--config", str(TRAINING), "--bundles", root]
    if subprocess.run(command, check=False).returncode != 0:  # noqa: S603
        _fail("training failed: see above")
    if not bundles.versions(root):
        _fail(f"training ended without a bundle in {root}")
    return round(time.monotonic() - began, 1)


def environment(root: str, seed: int) -> dict[str, str]:
    """Settings of the demo's service: its bundles and its experiment table."""
    arms = [{"name": name, "policy": policy, "namespace": name} for name, policy in POLICIES.items()]
    return {"BUNDLES": root, "ARMS": json.dumps(arms), "SEED": str(seed)}


async def drive(service: LocalService, world: World, bundle: Bundle, run: Run) -> bool:
    """Send the traffic, wait for the fold, and write the report; whether the books balance.

    Raises:
        ServiceFailed: the service does not come up.
        TrafficError: it refuses the traffic.
    """
    with console.status("Starting the service"):
        service.wait_until_ready()
    monitor = Monitor(service.url, service.fold_url)
    traffic = Traffic(world, service.url, list(POLICIES), run.seed, concurrency=run.concurrency)
    watching = asyncio.create_task(monitor.run())
    try:
        await _first_look(monitor)
        cpu = _Cpu(service)
        await _show(traffic, monitor, run.seconds)
        shares = cpu.shares()
        with console.status("Waiting until the fold has caught up"):
            await _caught_up(traffic, monitor)
    finally:
        watching.cancel()
    visits = traffic.visits.visits()
    summary = _summary(traffic, monitor, bundle, run, shares)
    run.report.mkdir(parents=True, exist_ok=True)
    (run.report / "summary.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
    plot.learning(visits, list(POLICIES), run.report / "learning.png")
    console.print(final_table(summary["arms"], summary["oracle"]))
    balanced = report.books_balance(traffic.delivery, monitor.folded)
    console.print(report.books(traffic.delivery, monitor.folded), style="green" if balanced else "bold red")
    return balanced


async def _first_look(monitor: Monitor) -> None:
    """What the fold counted before the traffic is not the traffic's."""
    deadline = time.monotonic() + FOLD_WITHIN_S
    while monitor.folded is None:
        if time.monotonic() > deadline:
            raise ServiceFailed(f"the fold does not answer on {monitor.fold_url}")
        await asyncio.sleep(0.1)


async def _show(traffic: Traffic, monitor: Monitor, seconds: float) -> None:
    """Run the traffic and show it: live on a terminal, else a line now and then."""
    view = Live(traffic, monitor, POLICIES, seconds)
    task = asyncio.create_task(traffic.run(seconds))
    try:
        if console.is_terminal:
            with rich.live.Live(view, console=console, auto_refresh=False) as screen:
                while not task.done():
                    await asyncio.wait([task], timeout=0.5)
                    screen.refresh()
        else:
            while not task.done():
                await asyncio.wait([task], timeout=LINE_EVERY_S)
                console.print(view.line(), soft_wrap=True)
        await task
    finally:
        task.cancel()


async def _caught_up(traffic: Traffic, monitor: Monitor) -> None:
    """Wait, within bounds, until nothing lies in the log unfolded and everything accepted is accounted for."""
    deadline = time.monotonic() + CAUGHT_UP_WITHIN_S
    await asyncio.sleep(SETTLED_S)  # what the fold exports now may be from before the last event
    while time.monotonic() < deadline:
        if monitor.lag == 0 and report.books_balance(traffic.delivery, monitor.folded):
            return
        await asyncio.sleep(0.2)


def _summary(
    traffic: Traffic, monitor: Monitor, bundle: Bundle, run: Run, cpu_shares: Mapping[str, float]
) -> dict[str, Any]:
    visits, delivery = traffic.visits.visits(), traffic.delivery
    manifest = bundle.manifest
    seconds = float(visits.seconds[-1]) if len(visits.seconds) else 0.0
    settings = Settings(environment=Environment.DEVELOPMENT)
    return {
        "default_arm": next(iter(POLICIES)),
        "arms": report.arms(visits, POLICIES),
        "oracle": report.oracle(visits),
        "freshness_ms": report.freshness_ms(monitor.freshness),
        "events": {**asdict(delivery), **(monitor.folded or dict.fromkeys(OUTCOMES))},
        "log": "kafka" if settings.kafka_bootstrap_servers else "sqlite",
        "seconds": {**run.timings, "traffic": round(seconds, 1)},
        "bundle": {
            "version": manifest.version,
            **manifest.counts.model_dump(include={"users", "items", "clusters", "edges"}),
        },
        "traffic": {
            "seed": run.seed,
            "concurrency": run.concurrency,
            "visits": len(visits.seconds),
            "visits_per_second": round(len(visits.seconds) / seconds, 1) if seconds else 0.0,
        },
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "cores_used": cpu_shares,
        },
    }


class _Cpu:
    """Which part used how much of a core since this was made."""

    def __init__(self, service: LocalService) -> None:
        self._service = service
        self._began, self._before = time.monotonic(), self._now()

    def shares(self) -> dict[str, float]:
        """Cores in use by part, the simulated users among them."""
        elapsed = time.monotonic() - self._began
        return {
            part: round(max(0.0, now - self._before.get(part, 0.0)) / elapsed, 2) for part, now in self._now().items()
        }

    def _now(self) -> dict[str, float]:
        return {"simulated users": time.process_time(), **self._service.cpu_seconds()}


def _where_to_look(service: LocalService, bundle: Bundle, folder: Path, *, running: bool) -> None:
    """Print what a person may want to see next."""
    url = service.url if running else f"http://127.0.0.1:{Settings.model_fields['port'].default}"
    item = quote(bundle.item_ids[int(bundle.item_order[0])], safe="")
    settings = {"STATE_FOLDER": str(service.folder), **service.names}
    serve = " ".join([*(f"{name}={shlex.quote(value)}" for name, value in settings.items()), "make serve"])
    places = {
        "The plot": str(folder / "learning.png"),
        "The numbers": str(folder / "summary.json"),
        "Serve what it learned": "running; Ctrl-C ends it" if running else serve,
        "The API": f"{url}/docs",
        "What an item has learned": f"{url}/v1/items/{item}?view=state",
    }
    console.print()
    for name, place in places.items():
        # Whole lines, however narrow the terminal: they are there to be copied.
        console.print(f"[dim]{name:<26}[/]{escape(place)}", soft_wrap=True)


def _fail(message: str) -> NoReturn:
    console.print(message, style="red", markup=False)
    raise typer.Exit(2)


if __name__ == "__main__":
    cli()
