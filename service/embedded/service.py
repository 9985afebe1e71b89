"""The embedded service: which parts run on this machine, and how they find each other."""

from __future__ import annotations

import fcntl
import sys
import time

import redis
import structlog
from pydantic import SecretStr

from service.embedded import valkey
from service.embedded.supervisor import Child, Supervisor
from service.settings import Settings, development_secret

logger = structlog.get_logger(__name__)
PATIENCE_S = 10.0


class AlreadyRunning(Exception):  # noqa: N818 - names what happened
    """Another service uses the state folder."""


def with_secret(settings: Settings) -> Settings:
    """In development: the state folder's own secret in place of the defaults."""
    if not settings.has_default_secrets:
        return settings
    secret = SecretStr(development_secret(settings.state_folder))
    keys = {settings.token_key: secret}
    return settings.model_copy(update={"token_keys": keys, "pseudonym_key": secret})


def redis_url(settings: Settings) -> str:
    """REDIS_URL, or the address of the private Valkey."""
    return settings.redis_url or valkey.url(settings.state_folder)


def children(settings: Settings) -> list[Child]:
    """Valkey unless REDIS_URL is set, then the fold and the API, and verification in the background."""
    parts = []
    if settings.redis_url is None:
        end_orphan(settings)
        parts.append(Child("valkey", valkey.command(settings.state_folder), {}))
    parts += [Child(name, [sys.executable, "-m", "service", name], {}) for name in ("fold", "api")]
    if settings.verify_every_s:
        every = ["--every", str(settings.verify_every_s)]
        parts.append(Child("verify", [sys.executable, "-m", "service", "verify", *every], {}))
    return parts


def end_orphan(settings: Settings) -> None:
    """End a private Valkey whose supervisor was killed: two servers on one append-only file would ruin it.

    Raises:
        AlreadyRunning: it does not end.
    """
    deadline = time.monotonic() + PATIENCE_S
    with redis.Redis.from_url(valkey.url(settings.state_folder)) as client:
        while time.monotonic() < deadline:
            try:
                client.ping()
                logger.warning("a private Valkey is still running: ending it", folder=str(settings.state_folder))
                client.shutdown()
            except redis.exceptions.BusyLoadingError:
                pass  # it runs, but reads its file first
            except (redis.ConnectionError, FileNotFoundError):
                return
            time.sleep(0.05)
    raise AlreadyRunning(f"a Valkey on {settings.state_folder} does not end: end it by hand")


def run(settings: Settings) -> None:
    """Run everything until SIGTERM or SIGINT.

    Raises:
        AlreadyRunning: another service uses the state folder.
        NoServer: there is no Valkey or Redis program.
    """
    settings.state_folder.mkdir(parents=True, exist_ok=True)
    # Held as long as this process lives; children do not inherit it.
    lock = (settings.state_folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise AlreadyRunning(f"a service is running on {settings.state_folder}: end it, or set STATE_FOLDER") from error
    supervisor = Supervisor(children(settings))
    supervisor.handle_signals()
    supervisor.run()
