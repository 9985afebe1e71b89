from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offline import vectors
from offline.config import Train
from offline.data.timelines import PAD
from offline.features.fields import Fields
from offline.towers.two_tower import TwoTower
from offline.training.search import Trained
from tests.offline.conftest import INTERESTS, TRAIN


@pytest.mark.parametrize("config", [TRAIN, INTERESTS], ids=["two_tower", "hiformer"])
def test_chunks_do_not_change_the_vectors(config: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.array([1, 2, 3, 4, 5], np.int32)
    if config.tower == "hiformer":
        number = np.arange(5, dtype=np.float32)[:, None]
        items: Any = Fields((np.ones((5, 2), np.int32),), number)
        users: Any = Fields((), number[:3])
    else:
        items, users = np.ones((5, 2), np.int32), np.ones((3, 1), np.int32)
    model = TwoTower(5, items, users, config, seed=0)
    histories = np.array([[0, 1], [2, PAD], [PAD, PAD]], np.int32)
    histories = np.pad(histories, ((0, 0), (0, TRAIN.history_length - 2)), constant_values=PAD)
    whole = vectors.embed(model, ids, items, histories, users)
    monkeypatch.setattr(vectors, "_CHUNK", 2)
    parts = vectors.embed(model, ids, items, histories, users)
    assert whole.users.shape == (3, config.interests, TRAIN.dimension)
    assert whole.items.shape == (5, TRAIN.dimension)
    assert np.allclose(whole.items, parts.items, atol=1e-6)
    assert np.allclose(whole.users, parts.users, atol=1e-6)


def test_are_of_length_one(trained: Trained) -> None:
    assert np.allclose(np.linalg.norm(trained.vectors.items, axis=-1), 1, atol=1e-4)
    assert np.allclose(np.linalg.norm(trained.vectors.users, axis=-1), 1, atol=1e-4)


def test_are_read_as_they_were_written(trained: Trained, tmp_path: Path) -> None:
    vectors.save(trained.vectors, tmp_path / "vectors.safetensors")
    found = vectors.load(tmp_path / "vectors.safetensors")
    assert np.array_equal(found.users, trained.vectors.users)
    assert np.array_equal(found.items, trained.vectors.items)
    assert found.temperature == trained.vectors.temperature
