from pathlib import Path

from bandit.manifest import Column, Reading
from bandit.models import ITEM_TOWER, USER_TOWER
from offline.export import networks
from offline.export.networks import Networks

READING = Reading(buckets=8, words_per_row=3, columns=[Column(name="price", kind="number", mean=0.1, deviation=2)])


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    saved = Networks({USER_TOWER: b"user", ITEM_TOWER: b"item"}, READING)
    networks.save(saved, tmp_path)
    assert networks.load(tmp_path) == saved


def test_a_folder_without_any_has_none(tmp_path: Path) -> None:
    assert networks.load(tmp_path) == Networks({})
