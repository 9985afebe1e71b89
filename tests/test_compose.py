"""The compose cluster's files, without an engine: what must hold before anybody starts it."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
SECRETS = {"TOKEN_KEYS", "PSEUDONYM_KEY", "VALKEY_PASSWORD"}
OURS = ("api", "fold", "verify", "trainer")
ENDLESS = sorted(SERVICES.keys() - {"trainer"})


def test_secrets_are_demanded_and_everything_else_has_a_default() -> None:
    used = re.findall(r"(?<!\$)\$\{(\w+)([^}]*)\}", TEXT)
    assert {name for name, _ in used} >= SECRETS
    for name, rest in used:
        assert rest.startswith(f":?set {name}" if name in SECRETS else ":-"), name
    assert not re.findall(r"(?<!\$)\$\w", TEXT)


def test_the_example_names_the_secrets_and_holds_none() -> None:
    lines = (ROOT / "deploy" / "compose" / "example.env").read_text().splitlines()
    assert {line for line in lines if line and not line.startswith("#")} == {f"{name}=" for name in SECRETS}
    assert "openssl rand -hex 32" in "\n".join(lines)


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    _, _, tag = SERVICES[name]["image"].rpartition(":")
    assert re.fullmatch(r"v?\d[\w.-]*", tag)


@pytest.mark.parametrize("name", OURS)
def test_our_images_have_the_versions_of_the_project_and_targets_of_the_dockerfile(name: str) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    target = SERVICES[name]["build"]["target"]
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert SERVICES[name]["image"] == f"online-matching/{target}:{version}"
    assert f"AS {target}\n" in dockerfile
    assert f'image.version="{version}"' in dockerfile


def test_ports_are_published_on_this_machine_only() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert sorted(published) == ["api", "prometheus"]
    for ports in published.values():
        assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", OURS)
def test_our_containers_may_do_no_more_than_they_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "user" not in service  # the image's own


def test_no_image_of_ours_runs_as_root() -> None:
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    for target in ("service", "trainer"):
        (stage,) = (stage for stage in stages if f"AS {target}\n" in stage)
        assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", stage, re.MULTILINE)


@pytest.mark.parametrize("name", ENDLESS)
def test_what_runs_on_is_started_again(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", ["api", "fold", "verify"])
def test_parts_wait_for_healthy_stores_and_know_their_settings(name: str) -> None:
    service = SERVICES[name]
    for needed, how in service["depends_on"].items():
        assert how == {"condition": "service_healthy"}
        assert "healthcheck" in SERVICES[needed]
    assert "healthcheck" in service
    assert service["environment"]["ENVIRONMENT"] == "production"
    assert {setting.lower() for setting in service["environment"]} <= Settings.model_fields.keys()
    snapshots = ["snapshots:/snapshots"] if name == "verify" else []
    assert service["volumes"] == ["bundles:/bundles:ro", *snapshots]
    assert service["environment"].get("SNAPSHOTS") == ("/snapshots" if snapshots else None)


def test_prometheus_scrapes_the_ports_that_the_parts_listen_on() -> None:
    scraped = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    settings = {"api": "port", "fold": "fold_port", "verify": "verify_port"}
    ports = {name: Settings.model_fields[setting].default for name, setting in settings.items()}
    assert {job["job_name"]: job["dns_sd_configs"][0]["port"] for job in scraped} == ports
    for job in scraped:
        assert job["dns_sd_configs"][0]["names"] == [job["job_name"]]
        assert f":{ports[job['job_name']]}/" in SERVICES[job["job_name"]]["healthcheck"]["test"][-1]
