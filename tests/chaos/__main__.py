"""`make chaos`, `make chaos-cluster`, `make chaos-embedded`: hurt a running system, then compare it with its log."""

import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import orjson
import typer
from rich.console import Console

from tests.chaos.deployment import Deployment
from tests.chaos.embedded import PLAN as EMBEDDED_PLAN
from tests.chaos.embedded import Embedded, EmbeddedFaults
from tests.chaos.faults import CLUSTER_PLAN, PLAN, DeploymentFaults
from tests.chaos.run import PROOFS, Report, Run, carry_out
from tests.kafka_server import KafkaServer

cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(stderr=True, highlight=False)
Seconds = Annotated[float | None, typer.Option(help="How long producers write.")]
Seed = Annotated[int | None, typer.Option(help="Repeats a run: its plan and what producers say.")]
Folder = Annotated[Path | None, typer.Option(help="Keeps logs and data there; else they go when all is well.")]


@cli.command()
def kafka(seconds: Seconds = None, seed: Seed = None, folder: Folder = None) -> None:
    """Apache Kafka, one Redis, four folds, one API."""
    _kafka(Run(seconds or 205, 310, _seed(seed), PLAN), 2000, folder, cluster=False)


@cli.command()
def cluster(seconds: Seconds = None, seed: Seed = None, folder: Folder = None) -> None:
    """The same on a Redis Cluster of three masters."""
    _kafka(Run(seconds or 110, 310, _seed(seed), CLUSTER_PLAN), 2000, folder, cluster=True)


@cli.command()
def embedded(seconds: Seconds = None, seed: Seed = None, folder: Folder = None) -> None:
    """`python -m service`: the SQLite log and a private Valkey."""
    run = Run(seconds or 110, 150, _seed(seed), EMBEDDED_PLAN)
    with _kept(folder) as path:
        with Embedded(path, 2000) as service:
            report = carry_out(service, EmbeddedFaults(service, run.seed), run, console)
        tell(report)


def _kafka(run: Run, window: int, folder: Path | None, *, cluster: bool) -> None:
    if missing := KafkaServer.available():
        console.print(missing)
        raise typer.Exit(2)
    with _kept(folder) as path:
        with Deployment(path, window, cluster=cluster) as deployment:
            report = carry_out(deployment, DeploymentFaults(deployment, run.seed), run, console)
        tell(report)


def _seed(asked: int | None) -> int:
    seed = random.SystemRandom().randrange(1 << 32) if asked is None else asked
    console.print(f"seed {seed}: repeat with SEED={seed}")
    return seed


def tell(report: Report) -> None:
    """One JSON line, last; exit 1 if something was lost or counted twice, or if the run proved nothing."""
    figures = report.figures
    complaints = [*report.complaints]
    complaints += [
        f"{name} is {figures[name]}" for name in ("edges_different", "lost", "counted_twice") if figures[name]
    ]
    complaints += [f"{name} is 0: the run proved nothing" for name in PROOFS if not figures[name]]
    for complaint in complaints:
        console.print(complaint, style="red", markup=False)
    sys.stdout.write(orjson.dumps(figures).decode() + "\n")
    raise typer.Exit(1 if complaints else 0)


@contextmanager
def _kept(named: Path | None) -> Iterator[Path]:
    """A folder for data and logs, which stays if it was named, or if not all was well."""
    path = named or Path(tempfile.mkdtemp(prefix="chaos-"))
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield path
    except BaseException as error:
        if not (isinstance(error, typer.Exit) and error.exit_code == 0):
            console.print(f"logs and data are in {path}")
        elif named is None:
            shutil.rmtree(path, ignore_errors=True)
        raise


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    cli()
