"""The command line: one command a step, and `run` for all of them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from bandit.bundle import BundleError
from offline.config import QUICK, Config, load
from offline.errors import ConfigError, DataError
from offline.pipeline import Pipeline

app = typer.Typer(
    help="From interactions to a bundle that the service loads. Without files of your own: UCI Online Retail.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

_DATA, _RUN = "Your data", "The run"
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file with sections prepare, train, build, rank, evaluate, publish.",
                 rich_help_panel=_RUN)
]  # fmt: skip
Work = Annotated[Path, typer.Option(help="Folder for the steps' results.", rich_help_panel=_RUN)]
Bundles = Annotated[str, typer.Option(help="Where bundles are published: a folder or s3://…", rich_help_panel=_RUN)]
Parent = Annotated[
    str | None,
    typer.Option(help="Bundle whose learning goes on: a version, `newest` (default) or `none`.", rich_help_panel=_RUN),
]
Quick = Annotated[
    bool, typer.Option("--quick", help="A tiny model: ends soon, recommends poorly.", rich_help_panel=_RUN)
]
Ranker = Annotated[
    bool, typer.Option("--ranker", help="Train the ranker as well, for RANKER=on.", rich_help_panel=_RUN)
]
Seed = Annotated[int | None, typer.Option(help="Seed of every random number.", rich_help_panel=_RUN)]
DataSet = Annotated[
    Literal["online-retail", "synthetic"] | None,
    typer.Option(help="Which built-in data, without files of your own.", rich_help_panel=_DATA),
]
Interactions = Annotated[
    Path | None, typer.Option(help="CSV or Parquet, a row per interaction.", rich_help_panel=_DATA)
]
Items = Annotated[Path | None, typer.Option(help="CSV or Parquet, a row per item.", rich_help_panel=_DATA)]
Users = Annotated[Path | None, typer.Option(help="CSV or Parquet, a row per user.", rich_help_panel=_DATA)]
UserColumn = Annotated[str | None, typer.Option(help="Column of user ids.", rich_help_panel=_DATA)]
ItemColumn = Annotated[str | None, typer.Option(help="Column of item ids.", rich_help_panel=_DATA)]
TimestampColumn = Annotated[
    str | None, typer.Option(help="Column of times: ISO 8601 (UTC without a zone) or numbers.", rich_help_panel=_DATA)
]
TimestampUnit = Annotated[
    Literal["s", "ms", "us"] | None, typer.Option(help="Unit of numeric times since 1970.", rich_help_panel=_DATA)
]
TestStart = Annotated[
    datetime | None,
    typer.Option(help="Start of the test period (UTC); default: the last 20 % of time.", rich_help_panel=_DATA),
]
DropDuplicates = Annotated[
    bool | None, typer.Option("--drop-duplicates", help="Leave out repeated rows.", rich_help_panel=_DATA)
]
DropUnknown = Annotated[
    bool | None,
    typer.Option("--drop-unknown", help="Leave out rows whose user or item has no row.", rich_help_panel=_DATA),
]

_SEVERAL = "Several processes"
Coordinator = Annotated[
    str | None,
    typer.Option(envvar="JAX_COORDINATOR_ADDRESS", help="HOST:PORT of process 0, a free port.",
                 rich_help_panel=_SEVERAL),
]  # fmt: skip
Processes = Annotated[
    int, typer.Option(envvar="JAX_NUM_PROCESSES", min=1, help="How many there are.", rich_help_panel=_SEVERAL)
]
Process = Annotated[
    int, typer.Option(envvar="JAX_PROCESS_ID", min=0, help="Which this one is, from 0.", rich_help_panel=_SEVERAL)
]

_WORK, _BUNDLES = Path("build"), "bundles"


@app.command()
def run(
    config: ConfigOption = None,
    work: Work = _WORK,
    bundles: Bundles = _BUNDLES,
    parent: Parent = None,
    quick: Quick = False,
    ranker: Ranker = False,
    seed: Seed = None,
    data_set: DataSet = None,
    interactions: Interactions = None,
    items: Items = None,
    users: Users = None,
    user_column: UserColumn = None,
    item_column: ItemColumn = None,
    timestamp_column: TimestampColumn = None,
    timestamp_unit: TimestampUnit = None,
    test_start: TestStart = None,
    drop_duplicates: DropDuplicates = None,
    drop_unknown: DropUnknown = None,
) -> None:
    """Do everything: prepare, train, build, evaluate, publish. What is unchanged since last time is not done again."""
    settings = _settings(
        config,
        quick=quick,
        ranker=ranker,
        seed=seed,
        parent=parent,
        prepare=_prepare(
            data_set, interactions, items, users, user_column, item_column, timestamp_column, timestamp_unit,
            test_start, drop_duplicates, drop_unknown,
        ),
    )  # fmt: skip
    Pipeline(work, _console()).run(settings, bundles)


@app.command()
def prepare(
    config: ConfigOption = None,
    work: Work = _WORK,
    data_set: DataSet = None,
    interactions: Interactions = None,
    items: Items = None,
    users: Users = None,
    user_column: UserColumn = None,
    item_column: ItemColumn = None,
    timestamp_column: TimestampColumn = None,
    timestamp_unit: TimestampUnit = None,
    test_start: TestStart = None,
    drop_duplicates: DropDuplicates = None,
    drop_unknown: DropUnknown = None,
) -> None:
    """Read and check the data, cut it in time, and write it under one set of names."""
    section = _prepare(
        data_set, interactions, items, users, user_column, item_column, timestamp_column, timestamp_unit,
        test_start, drop_duplicates, drop_unknown,
    )  # fmt: skip
    Pipeline(work, _console()).prepare(_settings(config, prepare=section).prepare)


@app.command()
def train(
    config: ConfigOption = None,
    work: Work = _WORK,
    quick: Quick = False,
    seed: Seed = None,
    coordinator: Coordinator = None,
    processes: Processes = 1,
    process: Process = 0,
) -> None:
    """Train the two towers; an interrupted training goes on from its last checkpoint.

    Several processes share every batch, and give what one gives. Start all of them with the same options but for
    `--process`, and with a work folder that all of them see: on two machines, say,

        python -m offline train --coordinator first:9000 --processes 2 --process 0

        python -m offline train --coordinator first:9000 --processes 2 --process 1

    On one machine with several GPUs one process uses them all; two processes there are two commands with 127.0.0.1.
    """
    settings = _settings(config, quick=quick, seed=seed).train
    if processes > 1:
        if coordinator is None:
            raise ConfigError("--processes needs --coordinator HOST:PORT, an address of process 0 that all can reach")
        from offline.training.processes import join  # noqa: PLC0415  JAX takes seconds to import

        join(coordinator, processes, process)
    Pipeline(work, _console()).train(settings)


@app.command()
def build(config: ConfigOption = None, work: Work = _WORK, seed: Seed = None) -> None:
    """Cluster the users and draw the sparse graph from clusters to items."""
    Pipeline(work, _console()).build(_settings(config, seed=seed).build)


@app.command()
def rank(config: ConfigOption = None, work: Work = _WORK, quick: Quick = False, seed: Seed = None) -> None:
    """Train the ranker, which orders a request's best candidates anew where the service has RANKER=on."""
    Pipeline(work, _console()).rank(_settings(config, quick=quick, ranker=True, seed=seed).rank)


@app.command()
def evaluate(config: ConfigOption = None, work: Work = _WORK) -> None:
    """Measure on the test period, against popularity and item-kNN: a table, a plot, metrics as JSON."""
    Pipeline(work, _console()).evaluate(_settings(config).evaluate)


@app.command()
def publish(
    config: ConfigOption = None, work: Work = _WORK, bundles: Bundles = _BUNDLES, parent: Parent = None
) -> None:
    """Write the bundle to where the service reads it; its edges carry on what an earlier bundle's have learned."""
    Pipeline(work, _console()).publish(_settings(config, parent=parent).publish, bundles)


def main() -> None:
    """Run a command; what the user can mend ends with a message and exit code 2."""
    try:
        app()
    except (DataError, ConfigError, BundleError) as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]Error:[/] {_plain(error)}", highlight=False)
        raise SystemExit(2) from None


def _prepare(
    data_set: str | None,
    interactions: Path | None,
    items: Path | None,
    users: Path | None,
    user_column: str | None,
    item_column: str | None,
    timestamp_column: str | None,
    timestamp_unit: str | None,
    test_start: datetime | None,
    drop_duplicates: bool | None,
    drop_unknown: bool | None,
) -> dict[str, Any]:
    """The options of the section `prepare` by their keys."""
    return dict(locals())


def _settings(
    config: Path | None,
    *,
    quick: bool = False,
    ranker: bool = False,
    seed: int | None = None,
    parent: str | None = None,
    prepare: dict[str, Any] | None = None,
) -> Config:
    overrides: dict[str, dict[str, Any]] = {
        "prepare": prepare or {},
        "train": {},
        "build": {},
        "rank": {"enabled": True} if ranker else {},
        "publish": {"parent": parent},
    }
    for section, values in QUICK.items() if quick else ():
        overrides[section].update(values)
    for section in ("train", "build", "rank"):
        overrides[section]["seed"] = seed
    if seed is not None:
        overrides["prepare"]["synthetic"] = {"seed": seed}
    return load(config, overrides)


def _console() -> Console:
    return Console(soft_wrap=True, highlight=False)


def _plain(error: Exception) -> str:
    return str(error).replace("[", "\\[")
