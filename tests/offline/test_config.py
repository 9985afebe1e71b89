from datetime import UTC, datetime
from pathlib import Path

import pytest

from offline.config import QUICK, Config, load
from offline.errors import ConfigError


def toml(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text)
    return path


def test_defaults_need_no_file() -> None:
    assert load(None, {}) == Config()


def test_the_command_line_wins_and_none_does_not(tmp_path: Path) -> None:
    path = toml(tmp_path, "[train]\nseed = 1\nhidden = 7\n")
    found = load(path, {"train": {"seed": 2, "hidden": None}})
    assert (found.train.seed, found.train.hidden) == (2, 7)


def test_an_option_inside_a_nested_section_leaves_the_others_alone(tmp_path: Path) -> None:
    path = toml(tmp_path, '[prepare]\ndata_set = "synthetic"\n[prepare.synthetic]\nusers = 7\nseed = 1\n')
    found = load(path, {"prepare": {"synthetic": {"seed": 2}}}).prepare
    assert (found.data_set, found.synthetic.users, found.synthetic.seed) == ("synthetic", 7, 2)


def test_paths_are_relative_to_the_file_and_times_are_utc(tmp_path: Path) -> None:
    path = toml(
        tmp_path, '[prepare]\ninteractions = "own.csv"\nusers = "/u.csv"\ntest_start = 2024-05-01T02:00:00+02:00\n'
    )
    found = load(path, {}).prepare
    assert (found.interactions, found.users) == (tmp_path / "own.csv", Path("/u.csv"))
    assert found.test_start == datetime(2024, 5, 1, tzinfo=UTC)
    assert load(None, {"prepare": {"test_start": datetime(2024, 5, 1)}}).prepare.test_start == found.test_start


def test_quick_is_a_valid_configuration() -> None:
    assert load(None, QUICK).train.max_epochs == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train]\nhidden = 0\n", "run.toml: train.hidden: Input should be greater than or equal to 1"),
        ("[train]\nfoo = 0\n", "run.toml: train.foo: Extra inputs are not permitted"),
        ("[bild]\nfoo = 0\n", "run.toml: bild: Extra inputs are not permitted"),
        ("train = 3\n", "run.toml: train: Input should be"),
        ("[prepare]\nitems = 'i.csv'\n", "run.toml: prepare: Value error, items and users describe interactions of"),
        ("[prepare.synthetic]\ninterests = 6\n", "run.toml: prepare.synthetic: Value error, 6 interests need as many"),
        ("[prepare.synthetic]\nalpha = 0.9\n", "prepare.synthetic: Value error, alpha + gamma must be at most 1"),
        ("[train]\ntower = 'two_tower'\n", "run.toml: train: Value error, tower two_tower gives one interest a user"),
        ("[train\n", "run.toml: not valid TOML"),
    ],
)
def test_faults_name_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(toml(tmp_path, text), {})
    assert message in str(caught.value)


def test_faults_of_options_and_missing_files_are_named(tmp_path: Path) -> None:
    path = toml(tmp_path, "[train]\nhidden = 7\n")
    with pytest.raises(ConfigError, match=r"command line: train\.hidden: "):
        load(path, {"train": {"hidden": 0}})
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "none.toml", {})
