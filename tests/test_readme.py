"""What the README shows is what runs: its examples are executed, its table of settings is compared with the class."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from bandit import bundle
from loadtest.local_service import LocalService
from service import settings_table
from tests.bundles import child_of, small_bundle

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LEARNED_WITHIN_S = 20


def section(title: str) -> str:
    """The text under a heading, up to the next of its kind."""
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[LocalService]:
    """A service with two bundles, the second of which descends from the first."""
    root = tmp_path / "bundles"
    bundle.write(small_bundle(), str(root))
    bundle.write(child_of(small_bundle()), str(root))
    with LocalService(tmp_path / "state", {"BUNDLES": str(root), "WINDOW_RECORDS": "1000"}) as service:
        service.wait_until_ready()
        yield service


def run(script: str, service: LocalService, folder: Path) -> str:
    """What an example prints in the readers' shell, but any failure ends it."""
    strict = 'set -euo pipefail\ncurl() { command curl --fail-with-body "$@"; echo; }\n'
    script = script.replace("http://127.0.0.1:8000", service.url).replace("python3 ", f"{sys.executable} ")
    done = subprocess.run(
        ["bash", "-c", strict + script], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def answers(printed: str) -> list[Any]:
    """The JSON in it."""
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


@pytest.mark.skipif(shutil.which("curl") is None, reason="the examples use curl: install it to run them")
def test_the_api_examples_close_the_loop(service: LocalService, tmp_path: Path) -> None:
    (script,) = re.findall(r"```sh\n(.*?)```", section("The API"), flags=re.DOTALL)
    printed = run(script, service, tmp_path)
    slate, verdicts, item, ready = answers(printed)
    assert len(slate["items"]) == 3
    assert verdicts == {"events": [{"verdict": "accepted"}, {"verdict": "accepted"}]}
    assert item["item_id"] == slate["items"][0]["item_id"]
    assert ready["status"] == "ready"
    assert "om_freshness_seconds_bucket" in printed
    address = f"{service.url}/v1/items/{quote(item['item_id'])}?view=state"
    deadline = time.monotonic() + LEARNED_WITHIN_S
    while json.loads(urlopen(address).read())["state"][0]["rewards"] == 0:
        assert time.monotonic() < deadline, "the click was never learned"
        time.sleep(0.05)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the examples use curl: install it to run them")
def test_the_examples_change_bundles(service: LocalService, tmp_path: Path) -> None:
    changing = section("Operations").split("### Changing bundles")[1]
    script = re.findall(r"```sh\n(.*?)```", changing, flags=re.DOTALL)[0]
    first, pinned, back, free = answers(run(script, service, tmp_path))
    newest, oldest = (listed["version"] for listed in first["bundles"])
    assert [told["serving"] for told in (first, pinned, back, free)] == [newest, oldest, newest, newest]
    assert [told["pinned"] for told in (first, pinned, back, free)] == [False, True, True, False]


def test_the_table_of_settings_is_the_class() -> None:
    assert settings_table.table() in section("Settings")


def test_the_targets_it_names_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)", README)) - {"and"} <= targets


def test_the_files_it_links_to_exist() -> None:
    for target in re.findall(r"\]\(((?!https?:)[^)#]+)\)", README):
        assert (ROOT / target).exists(), target
