"""`python -m service`: everything on this machine; `api`, `fold`, `verify`: one part of it, for clusters."""

from __future__ import annotations

import re
from typing import Annotated, NoReturn

import typer
import uvicorn
from pydantic import ValidationError
from pydantic_settings import SettingsError

from service import logs, settings_table
from service.app import create_app, direct
from service.embedded import service as embedded
from service.embedded.service import AlreadyRunning
from service.embedded.supervisor import end_with_supervisor
from service.embedded.valkey import NoServer
from service.feedback_log.base import LogReset
from service.fold import process as fold_process
from service.settings import PREFIX, Settings
from service.store.redis import StoreError
from service.verification import process as verification
from service.verification import replay_process

cli = typer.Typer(
    help="Recommendations that learn from every click. Settings are environment variables: see the README's table.",
    add_completion=False,
)


@cli.callback(invoke_without_command=True)
def everything(context: typer.Context) -> None:
    """Without a command: keep a private Valkey (unless REDIS_URL is set), the fold and the API running here."""
    if context.invoked_subcommand is None:
        settings = _settings("supervisor")
        try:
            embedded.run(settings)
        except (NoServer, AlreadyRunning) as error:
            _fail(str(error))


@cli.command()
def api() -> None:
    """Run the HTTP API alone."""
    settings = _settings("api")
    app = direct(create_app(settings, embedded.redis_url(settings)), settings)
    end_with_supervisor()
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
    )


@cli.command()
def fold(
    begin: Annotated[
        bool, typer.Option("--begin", help="Where nothing was folded yet, begin at the log's start, wherever that is.")
    ] = False,
    replay_from: Annotated[
        str | None,
        typer.Option(help="Fold the log again from `earliest`, an offset, or a time, into another prefix, then end."),
    ] = None,
    into: Annotated[str | None, typer.Option(help="That prefix; <KEY_PREFIX>.replay if not named.")] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Remove what that prefix holds first.")] = False,
) -> None:
    """Run the fold alone: feedback log → statistics in Redis."""
    settings = _settings("fold")
    end_with_supervisor()
    if replay_from is not None:
        raise typer.Exit(_replay(settings, replay_from, into, anew=anew))
    if into is not None or anew:
        _fail("--into and --anew belong to --replay-from")
    try:
        fold_process.run(settings, embedded.redis_url(settings), begin=begin)
    except (StoreError, LogReset) as error:
        _fail(str(error))


@cli.command()
def verify(
    repair: Annotated[
        bool, typer.Option("--repair", help="Set right what differs. Without it nothing in Redis is touched.")
    ] = False,
    every: Annotated[
        float | None, typer.Option(help="Verify every so many seconds, for ever, in the background.", min=1)
    ] = None,
) -> None:
    """Recompute the statistics from the feedback log and compare them with what is live, edge by edge.

    Traffic may go on. Prints a table, and last one JSON object; exit code 1 when something differs.
    """
    settings = _settings("verify")
    end_with_supervisor()
    try:
        code = verification.run(settings, embedded.redis_url(settings), every_s=every, repair=repair)
    except verification.FAILURES as error:
        _fail(str(error))
    raise typer.Exit(code)


@cli.command("settings")
def print_settings() -> None:
    """Print every setting, its default and its meaning."""
    typer.echo(settings_table.table())


def _replay(settings: Settings, origin: str, into: str | None, *, anew: bool) -> int:
    if into is not None and not re.fullmatch(PREFIX, into):
        _fail(f"--into {into}: a prefix has letters, digits and _ . - alone")
    try:
        return replay_process.run(settings, embedded.redis_url(settings), origin=origin, prefix=into, anew=anew)
    except replay_process.REFUSALS as error:
        _fail(str(error))


def _settings(part: str) -> Settings:
    """The settings, with the development secret, and logs set up for this part."""
    try:
        settings = embedded.with_secret(Settings())
    except ValidationError as error:
        _fail("\n".join(f"{'.'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in error.errors()))
    except SettingsError as error:
        _fail(f"{error}: {error.__cause__}")
    logs.configure(settings.log_level, settings.log_format, part)
    return settings


def _fail(message: str) -> NoReturn:
    typer.secho(message.removeprefix(": "), fg=typer.colors.RED, err=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    cli()
