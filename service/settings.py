"""Settings: one typed class, read from environment variables (and a `.env` file), all in upper case."""

from __future__ import annotations

import secrets
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bandit.policies import DEFAULT_POLICY, POLICIES

PREFIX = r"^[A-Za-z0-9_.-]+$"
DEVELOPMENT_SECRET = "development-only"  # noqa: S105
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class Environment(StrEnum):
    """Where the service runs; only development may use the default secrets."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class Arm(BaseModel):
    """One entry of the experiment table: who gets which policy, and whose statistics it learns from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    policy: str = DEFAULT_POLICY
    share: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    namespace: Name = "default"

    @model_validator(mode="after")
    def _policy_exists(self) -> Self:
        if self.policy not in POLICIES:
            raise ValueError(f"arm {self.name}: no policy {self.policy}; choose one of {', '.join(POLICIES)}")
        return self


class Switched(StrEnum):
    """Whether something that can be left out is done."""

    ON = "on"
    OFF = "off"


class Right(StrEnum):
    """What a key may do: ask, tell, or change what is served."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


class ApiKey(BaseModel):
    """A key of the API and its rights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    key: SecretStr = Field(min_length=16)
    scopes: frozenset[Right] = Field(min_length=1)


class Settings(BaseSettings):
    """Everything that can be set. The README's table is compared with this class by a test."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    environment: Environment = Field(Environment.DEVELOPMENT, description="`production` refuses default secrets")
    state_folder: Path = Field(Path("state"), description="where the embedded service keeps its log, store and secret")
    bundles: str = Field("bundles", description="folder or fsspec address (`s3://…`) of the published bundles")
    redis_url: str | None = Field(
        None,
        pattern="^(rediss?|unix)://",
        description="Redis or Valkey, one or a cluster; unset: a private Valkey is started",
    )
    kafka_bootstrap_servers: str | None = Field(None, description="Apache Kafka; unset: the SQLite log")
    kafka_topic: str = Field("feedback", description="topic of the feedback log")
    kafka_dead_letter_topic: str = Field("feedback.dead-letter", description="topic of what cannot be folded")
    kafka_group: str = Field("fold", description="consumer group of the folds")
    kafka_replication: int = Field(1, ge=1, description="replicas of the topics that the service creates")
    kafka_session_s: float = Field(
        10, ge=1, description="seconds after which others take over the partitions of a fold that is not heard of"
    )
    kafka_security_protocol: str = Field(
        "PLAINTEXT",
        pattern="^(PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL)$",
        description="`SSL`, `SASL_PLAINTEXT` or `SASL_SSL` for a Kafka that asks for it",
    )
    kafka_sasl_mechanism: str = Field(
        "PLAIN",
        pattern="^(PLAIN|SCRAM-SHA-256|SCRAM-SHA-512)$",
        description="how the password is proved: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`",
    )
    kafka_username: str | None = Field(None, description="user of SASL")
    kafka_password: SecretStr | None = Field(None, description="password of SASL")
    kafka_ca_file: Path | None = Field(None, description="authorities that sign the brokers; unset: the system's")
    kafka_certificate_file: Path | None = Field(None, description="a certificate of one's own, where brokers want one")
    kafka_key_file: Path | None = Field(None, description="its key")

    host: str = Field("127.0.0.1", description="address the API listens on")
    port: int = Field(8000, ge=0, le=65535, description="port the API listens on")
    fold_port: int = Field(8001, ge=0, le=65535, description="port of the fold's own metrics and health")
    verify_port: int = Field(8002, ge=0, le=65535, description="port of the verification's own metrics; 0: none")
    api_keys: list[ApiKey] = Field(
        [],
        description='keys that the API asks for, a JSON list of `{"name", "key", "scopes"}`; empty: it asks for none',
    )
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="least level that is logged")
    log_format: str = Field("console", pattern="^(console|json)$", description="`json` for machines")

    token_keys: dict[int, SecretStr] = Field(
        {1: SecretStr(DEVELOPMENT_SECRET)}, description="JSON object key id → secret; all of them verify tokens"
    )
    token_key: int = Field(1, ge=0, le=255, description="the key id that signs")
    token_life_s: int = Field(3600, ge=1, le=30 * 86400, description="seconds for which feedback on a slate counts")
    pseudonym_key: SecretStr = Field(
        SecretStr(DEVELOPMENT_SECRET), description="key of the hashes that stand for user and item ids"
    )

    arms: list[Arm] = Field([Arm(name="default")], min_length=1, description="the experiment table, a JSON list")
    logging_share: float = Field(0.02, ge=0, le=1, description="share of requests drawn at random for evaluation")
    logging_k: int = Field(20, ge=1, description="those requests draw from the k best")
    ranker: Switched = Field(
        Switched.OFF, description="`on`: the bundle's ranker, if it has one, orders the best candidates anew"
    )
    ranker_candidates: int = Field(200, ge=200, le=2000, description="how many candidates it orders")
    seed: int | None = Field(None, description="seed of the server's own chance, for repeatable runs")
    served_is_shown: bool = Field(False, description="count every served item as an impression at once")

    key_prefix: str = Field("om", pattern=PREFIX, description="prefix of all keys in Redis")
    shards: int = Field(8, ge=1, le=1024, description="S; frozen when first used")
    partitions: int = Field(8, ge=1, le=1024, description="P of the feedback log; frozen when first used")
    window_records: int = Field(1 << 18, ge=1, description="N, the duplicate window in records; frozen when first used")
    log_retention_s: int = Field(
        7 * 86400, ge=60, description="seconds the feedback log keeps; more than a token's life"
    )
    batch_records: int = Field(4000, ge=1, description="most records the fold takes at a time from a partition")
    call_edges: int = Field(8192, ge=6400, description="most edges one function call in Redis may add to")
    seen_items: int = Field(500, ge=0, description="newest seen items kept per user")
    recent_items: int = Field(50, ge=0, description="newest rewarded items kept per user")
    generations: int = Field(1, ge=0, description="earlier bundles whose learning counts; 0: begin from the prior")
    bundle_wait_s: float = Field(60, ge=0, description="how long the fold waits for a bundle that a token names")
    verify_every_s: int = Field(
        3600, ge=0, description="seconds between passes of the embedded service's verification; 0: none"
    )
    snapshots: str | None = Field(
        None, description="folder or fsspec address of the verification's snapshots; unset: in the state folder"
    )

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if self.token_key not in self.token_keys:
            raise ValueError(f"TOKEN_KEY is {self.token_key}, but TOKEN_KEYS has only {sorted(self.token_keys)}")
        if not all(0 <= key_id <= 255 for key_id in self.token_keys):
            raise ValueError("TOKEN_KEYS: key ids lie in [0, 255]")
        names = [arm.name for arm in self.arms]
        if len(set(names)) != len(names) or sum(arm.share for arm in self.arms) <= 0:
            raise ValueError("ARMS: names must differ and the shares add up to more than 0")
        keys = [key.key.get_secret_value() for key in self.api_keys]
        if len(set(keys)) != len(keys):
            raise ValueError("API_KEYS: keys must differ")
        if self.log_retention_s <= self.token_life_s + 60:
            raise ValueError("LOG_RETENTION_S must exceed TOKEN_LIFE_S by more than a minute")
        if self.environment is Environment.PRODUCTION and self.has_default_secrets:
            raise ValueError(
                "ENVIRONMENT=production refuses the default secrets: set TOKEN_KEYS and PSEUDONYM_KEY, "
                'e.g. TOKEN_KEYS=\'{"1":"…"}\' with the output of `openssl rand -hex 32`'
            )
        return self

    @model_validator(mode="after")
    def _kafka_is_secured_as_asked(self) -> Self:
        protocol = self.kafka_security_protocol
        said = f"KAFKA_SECURITY_PROTOCOL={protocol}"
        credentials = {"KAFKA_USERNAME": self.kafka_username, "KAFKA_PASSWORD": self.kafka_password}
        files = {
            "KAFKA_CA_FILE": self.kafka_ca_file,
            "KAFKA_CERTIFICATE_FILE": self.kafka_certificate_file,
            "KAFKA_KEY_FILE": self.kafka_key_file,
        }
        for name, value in credentials.items():
            if protocol.startswith("SASL") and not value:
                raise ValueError(f"{said} needs {name}")
            if not protocol.startswith("SASL") and value:
                raise ValueError(f"{said} sends no password: unset {name}, or choose SASL_SSL")
        for name, path in files.items():
            if path is not None and not protocol.endswith("SSL"):
                raise ValueError(f"{said} is not encrypted: unset {name}, or choose SSL or SASL_SSL")
            if path is not None and not path.is_file():
                raise ValueError(f"{name}: there is no file {path}")
        if (self.kafka_certificate_file is None) != (self.kafka_key_file is None):
            raise ValueError("KAFKA_CERTIFICATE_FILE and KAFKA_KEY_FILE go together: set both or neither")
        return self

    @property
    def has_default_secrets(self) -> bool:
        """Whether any secret is still the one in the source."""
        values = [self.pseudonym_key, *self.token_keys.values()]
        return any(secret.get_secret_value() in ("", DEVELOPMENT_SECRET) for secret in values)

    @property
    def verifying_keys(self) -> dict[int, bytes]:
        """Key id → bytes of every key that verifies tokens."""
        return {key_id: secret.get_secret_value().encode() for key_id, secret in self.token_keys.items()}

    @property
    def pseudonym_bytes(self) -> bytes:
        """The pseudonyms' key as bytes, at most 64 of them."""
        return self.pseudonym_key.get_secret_value().encode()[:64]

    @property
    def most_lag_ms(self) -> int:
        """How far the fold may be behind before retention may have taken an earlier copy of what it has not folded."""
        return 1000 * (self.log_retention_s - self.token_life_s - 60)

    @property
    def frozen_facts(self) -> dict[str, int]:
        """What may not change while the statistics live."""
        return {"shards": self.shards, "partitions": self.partitions, "window_records": self.window_records}

    @property
    def snapshots_root(self) -> str:
        """Where verification leaves its snapshots."""
        return self.snapshots or str(self.state_folder / "snapshots")

    @property
    def feedback_database(self) -> Path:
        """The SQLite log's file."""
        return self.state_folder / "feedback.sqlite"


def development_secret(folder: Path) -> str:
    """The embedded service's own secret: made once, kept in the state folder, readable by its owner alone."""
    path = folder / "secret"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=folder) as draft:
            draft.write(secrets.token_hex(32))
            draft.flush()
            # It appears whole, and of several processes that start at once the first one wins.
            with suppress(FileExistsError):
                path.hardlink_to(draft.name)
    return path.read_text()
