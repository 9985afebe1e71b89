from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from pydantic import ValidationError

from bandit.policies import DEFAULT_POLICY
from service.settings import DEVELOPMENT_SECRET, Arm, Settings, development_secret

MakeSettings = Callable[..., Settings]
SECRETS: dict[str, Any] = {"token_keys": {1: "3c5f"}, "pseudonym_key": "9a1b"}


def test_the_defaults_run_an_embedded_service_in_development(settings: MakeSettings) -> None:
    defaults = settings()
    assert defaults.environment == "development"
    assert defaults.redis_url is None
    assert defaults.kafka_bootstrap_servers is None
    assert defaults.arms == [Arm(name="default", policy=DEFAULT_POLICY, share=1.0, namespace="default")]
    assert defaults.window_records == 2**18
    assert defaults.shards == 8
    assert defaults.logging_share == 0.02
    assert not defaults.served_is_shown
    assert defaults.has_default_secrets


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_settings_are_read_from_the_environment_in_upper_case(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings()
    monkeypatch.setenv("PORT", "9000")
    monkeypatch.setenv("TOKEN_KEYS", '{"1": "old", "2": "new"}')
    monkeypatch.setenv("TOKEN_KEY", "2")
    monkeypatch.setenv("PSEUDONYM_KEY", "hidden")
    monkeypatch.setenv(
        "ARMS",
        '[{"name": "ours", "share": 3}, {"name": "paper", "policy": "diag_linucb", "share": 1, "namespace": "paper"}]',
    )
    read = settings()
    assert read.port == 9000
    assert read.verifying_keys == {1: b"old", 2: b"new"}
    assert read.token_key == 2
    assert read.pseudonym_bytes == b"hidden"
    assert read.arms == [
        Arm(name="ours", policy=DEFAULT_POLICY, share=3, namespace="default"),
        Arm(name="paper", policy="diag_linucb", share=1, namespace="paper"),
    ]
    assert not read.has_default_secrets


def test_settings_are_read_from_a_file_that_the_environment_overrides(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings()
    (tmp_path / ".env").write_text("PORT=9000\nSHARDS=2\nSOMEBODY_ELSES=1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHARDS", "3")
    read = Settings()
    assert (read.port, read.shards) == (9000, 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKEN_KEYS", "not json"),
        ("TOKEN_KEYS", '["list"]'),
        ("TOKEN_KEYS", '{"one": "secret"}'),
        ("ARMS", '{"name": "default"}'),
        ("ARMS", "[]"),
        ("ARMS", '[{"name": "default", "polcy": "random"}]'),
    ],
)
def test_an_environment_that_does_not_parse_is_refused_by_name(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    settings()
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"(?i){name}"):
        settings()


def test_secrets_are_not_shown(settings: MakeSettings) -> None:
    keys = [{"name": "web", "key": "the-key-of-the-api", "scopes": ["read"]}]
    shown = settings(token_keys={1: "the-token-secret"}, pseudonym_key="the-pseudonym-secret", api_keys=keys)
    for text in (repr(shown), str(shown), shown.model_dump_json()):
        assert "the-token-secret" not in text
        assert "the-pseudonym-secret" not in text
        assert "the-key-of-the-api" not in text


@pytest.mark.parametrize(
    "left",
    [
        {},
        {"token_keys": {1: "3c5f"}},
        {"pseudonym_key": "9a1b"},
        SECRETS | {"pseudonym_key": ""},
        SECRETS | {"token_keys": {1: "3c5f", 2: ""}},
        SECRETS | {"token_keys": {1: "3c5f", 2: DEVELOPMENT_SECRET}},
    ],
)
def test_production_refuses_default_and_empty_secrets(settings: MakeSettings, left: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="refuses the default secrets: set TOKEN_KEYS and PSEUDONYM_KEY"):
        settings(environment="production", **left)
    assert settings(**left).has_default_secrets


def test_production_takes_secrets_of_ones_own(settings: MakeSettings) -> None:
    assert not settings(environment="production", **SECRETS).has_default_secrets


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token_key": 2}, r"TOKEN_KEY is 2, but TOKEN_KEYS has only \[1\]"),
        ({"token_keys": {}}, r"TOKEN_KEY is 1, but TOKEN_KEYS has only \[\]"),
        ({"token_keys": {1: "a", 256: "b"}}, r"key ids lie in \[0, 255\]"),
        ({"token_keys": {1: "a", -1: "b"}}, r"key ids lie in \[0, 255\]"),
        ({"token_key": 256, "token_keys": {256: "b"}}, "token_key"),
        ({"arms": [{"name": "a"}, {"name": "a"}]}, "names must differ"),
        ({"arms": [{"name": "a", "share": 0}]}, "shares add up to more than 0"),
        ({"arms": [{"name": "a", "share": -1}]}, "greater than or equal to 0"),
        ({"arms": [{"name": "a", "share": float("inf")}]}, "finite"),
        ({"arms": [{"name": "a", "share": float("nan")}]}, "arms.0.share"),
        ({"arms": [{"name": "a", "policy": "best"}]}, "arm a: no policy best; choose one of .*diag_linucb"),
        ({"arms": [{"name": "with space"}]}, "arms.0.name"),
        ({"arms": [{"name": "a", "namespace": "with:colon"}]}, "arms.0.namespace"),
        ({"arms": []}, "arms"),
        ({"token_life_s": 3600, "log_retention_s": 3660}, "LOG_RETENTION_S must exceed TOKEN_LIFE_S"),
        ({"token_life_s": 0}, "token_life_s"),
        ({"token_life_s": 30 * 86400 + 1, "log_retention_s": 90 * 86400}, "token_life_s"),
        ({"api_keys": [{"name": "web", "key": "too-short", "scopes": ["read"]}]}, "at least 16"),
        ({"api_keys": [{"name": "web", "key": "0123456789abcdef", "scopes": []}]}, "api_keys.0.scopes"),
        ({"api_keys": [{"name": "web", "key": "0123456789abcdef", "scopes": ["all"]}]}, "'read', 'write' or 'admin'"),
        ({"api_keys": [{"name": n, "key": "0123456789abcdef", "scopes": ["read"]} for n in "ab"]}, "keys must differ"),
        ({"environment": "staging"}, "environment"),
        ({"port": 65536}, "port"),
        ({"log_level": "LOUD"}, "log_level"),
        ({"log_format": "xml"}, "log_format"),
        ({"logging_share": 1.1}, "logging_share"),
        ({"logging_k": 0}, "logging_k"),
        ({"key_prefix": "with:colon"}, "key_prefix"),
        ({"key_prefix": ""}, "key_prefix"),
        ({"shards": 0}, "shards"),
        ({"partitions": 0}, "partitions"),
        ({"window_records": 0}, "window_records"),
        ({"batch_records": 0}, "batch_records"),
        ({"call_edges": 6399}, "call_edges"),
        ({"seen_items": -1}, "seen_items"),
        ({"bundle_wait_s": -1}, "bundle_wait_s"),
    ],
)
def test_what_does_not_hang_together_is_refused(settings: MakeSettings, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**changes)


SASL = {"kafka_security_protocol": "SASL_SSL", "kafka_username": "alice", "kafka_password": "let me in"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kafka_security_protocol": "TLS"}, "kafka_security_protocol"),
        ({"kafka_sasl_mechanism": "GSSAPI"}, "kafka_sasl_mechanism"),
        (SASL | {"kafka_username": None}, "KAFKA_SECURITY_PROTOCOL=SASL_SSL needs KAFKA_USERNAME"),
        (SASL | {"kafka_password": None}, "KAFKA_SECURITY_PROTOCOL=SASL_SSL needs KAFKA_PASSWORD"),
        (SASL | {"kafka_security_protocol": "SSL"}, "SSL sends no password: unset KAFKA_USERNAME, or choose SASL_SSL"),
        ({"kafka_password": "let me in"}, "PLAINTEXT sends no password: unset KAFKA_PASSWORD"),
        ({"kafka_ca_file": __file__}, "PLAINTEXT is not encrypted: unset KAFKA_CA_FILE"),
        (SASL | {"kafka_ca_file": "no/such.pem"}, "KAFKA_CA_FILE: there is no file no/such.pem"),
        (SASL | {"kafka_key_file": __file__}, "KAFKA_CERTIFICATE_FILE and KAFKA_KEY_FILE go together"),
        ({"redis_url": "http://redis"}, "redis_url"),
    ],
)
def test_connections_that_do_not_hang_together_are_refused(
    settings: MakeSettings, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**changes)


def test_connections_that_hang_together_are_taken(settings: MakeSettings) -> None:
    secured = settings(**SASL, kafka_ca_file=__file__, kafka_certificate_file=__file__, kafka_key_file=__file__)
    assert "let me in" not in repr(secured)
    settings(kafka_security_protocol="SSL")
    settings(redis_url="rediss://user:password@a:1,b:2/0?ssl_ca_certs=ca.pem")


def test_what_just_hangs_together_is_taken(settings: MakeSettings) -> None:
    settings(token_life_s=3600, log_retention_s=3661)
    settings(token_keys={0: "a", 255: "b"}, token_key=255)
    settings(arms=[{"name": "a", "share": 0}, {"name": "b", "share": 0.1}])


def test_one_call_holds_the_largest_record_of_one_request(settings: MakeSettings) -> None:
    """200 items on 32 clusters each: a batch is halved down to one record, never further."""
    assert settings().call_edges >= settings(call_edges=6400).call_edges == 200 * 32


def test_settings_do_not_change_while_the_service_runs(settings: MakeSettings) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        settings().port = 1  # type: ignore[misc]


def test_a_pseudonym_key_has_at_most_64_bytes(settings: MakeSettings) -> None:
    assert settings(pseudonym_key="ü" * 40).pseudonym_bytes == ("ü" * 32).encode()


def test_what_may_not_change_while_statistics_live_is_named(settings: MakeSettings) -> None:
    facts = settings(shards=2, partitions=3, window_records=5).frozen_facts
    assert facts == {"shards": 2, "partitions": 3, "window_records": 5}


def test_the_log_lies_in_the_state_folder(settings: MakeSettings, tmp_path: Path) -> None:
    assert settings().feedback_database == tmp_path / "state" / "feedback.sqlite"


def test_the_development_secret_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "state"
    secret = development_secret(folder)
    assert len(secret) == 64
    assert development_secret(folder) == secret
    assert (folder / "secret").stat().st_mode & 0o777 == 0o600
    assert list(folder.iterdir()) == [folder / "secret"]
    assert development_secret(tmp_path / "other") != secret


def test_parts_that_start_at_once_share_one_development_secret(tmp_path: Path) -> None:
    parts = 8
    with ThreadPoolExecutor(parts) as pool:
        for attempt in range(10):
            folder, together = tmp_path / str(attempt), Barrier(parts)

            def start(folder: Path = folder, together: Barrier = together) -> str:
                together.wait()
                return development_secret(folder)

            secrets = {started.result() for started in [pool.submit(start) for _ in range(parts)]}
            assert len(secrets) == 1
            assert len(secrets.pop()) == 64
