"""`python -m loadtest.run`: Locust against a local service (or LOADTEST_HOST) for a bounded time, and its report."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bandit import bundle as bundles
from loadtest.local_service import LocalService, ServiceFailed, end_on_sigterm

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
# Locust may take as long to stop its users; then it is ended.
GRACE_S = 60.0
# What Locust calls its files, and what they are called here.
FILES = {
    "run_stats.csv": "stats.csv",
    "run_stats_history.csv": "history.csv",
    "run_failures.csv": "failures.csv",
    "run_exceptions.csv": "exceptions.csv",
}

console = Console(highlight=False)
cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@cli.command()
def main(
    users: Annotated[int, typer.Option("--users", "-u", min=1, max=10_000, help="Users at once.")] = 50,
    rate: Annotated[float, typer.Option("--spawn-rate", "-r", min=0.1, help="Users that start a second.")] = 10,
    seconds: Annotated[int, typer.Option("--seconds", "-t", min=1, max=3600, help="How long.")] = 60,
    root: Annotated[str, typer.Option("--bundles", help="Where bundles are published.")] = "bundles",
    state: Annotated[Path, typer.Option(help="State folder of the local service.")] = Path("state/loadtest"),
    folder: Annotated[Path, typer.Option("--report", help="Where the report goes.")] = Path("loadtest-report"),
) -> None:
    """Put a realistic load on a local service; set LOADTEST_HOST=http://… to load another one."""
    end_on_sigterm()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _host(root, state) as host:
            code = _locust(host, root, users, rate, seconds, folder)
    except ServiceFailed as error:
        _fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    for theirs, ours in FILES.items():
        if (folder / theirs).exists():
            (folder / theirs).replace(folder / ours)
    if not (folder / "stats.csv").exists():
        _fail(f"Locust ended with code {code}; see {folder / 'locust.log'}")
    console.print(table(folder / "stats.csv"))
    console.print(f"Report: {folder / 'report.html'}, {folder / 'stats.csv'}")
    raise typer.Exit(code)


def table(stats: Path) -> Table:
    """The summary of a `stats.csv`: requests, failures, rates and latencies by kind of request."""
    found = Table(title="Load", title_justify="left", title_style="bold", header_style="dim", box=None)
    found.add_column("request", no_wrap=True)
    for name in ("count", "failed", "per s", "p50 ms", "p95 ms", "p99 ms"):
        found.add_column(name, justify="right")
    with stats.open(newline="") as opened:
        for row in csv.DictReader(opened):
            total = row["Name"] == "Aggregated"
            found.add_row(
                "all" if total else f"{row['Type']} {row['Name'].removeprefix('/v1/')}".replace("[", r"\["),
                row["Request Count"], row["Failure Count"], f"{float(row['Requests/s']):.1f}",
                row["50%"], row["95%"], row["99%"],
                style="bold" if total else "red" if row["Failure Count"] != "0" else "",
            )  # fmt: skip
    return found


@contextmanager
def _host(root: str, state: Path) -> Iterator[str]:
    """LOADTEST_HOST, or a local service for as long as it is needed."""
    if host := os.environ.get("LOADTEST_HOST"):
        yield host
        return
    if not bundles.versions(root):
        _fail(f"no bundle in {root}: run `make train` (or `python -m offline run`) first")
    with LocalService(state, {"BUNDLES": root}) as service:
        with console.status("Starting the service"):
            service.wait_until_ready()
        yield service.url


def _locust(host: str, root: str, users: int, rate: float, seconds: int, folder: Path) -> int:
    """Run Locust, showing how far it is; its exit code, 1 if any request failed."""
    options = {"-f": LOCUSTFILE, "--host": host, "-u": users, "-r": rate, "-t": f"{seconds}s"}
    reports = {"--csv": folder / "run", "--html": folder / "report.html"}
    arguments = [str(part) for option in (options | reports).items() for part in option]
    columns = (TextColumn("Load"), BarColumn(50), TimeElapsedColumn())
    with (folder / "locust.log").open("wb") as log, Progress(*columns, console=console) as progress:
        command = [sys.executable, "-m", "locust", "--headless", "--only-summary", *arguments]
        environment = {**os.environ, "BUNDLES": root}
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # noqa: S603
        bar = progress.add_task("load", total=seconds)
        began = time.monotonic()
        try:
            while process.poll() is None and time.monotonic() < began + seconds + GRACE_S:
                progress.update(bar, completed=min(seconds, time.monotonic() - began))
                time.sleep(0.2)
        finally:
            process.terminate()
        return process.wait()


def _fail(message: str) -> NoReturn:
    console.print(message, style="red", markup=False)
    raise typer.Exit(2)


if __name__ == "__main__":
    cli()
