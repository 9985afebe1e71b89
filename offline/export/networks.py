"""Networks: what a bundle takes along for those who run its networks, and how rows are read for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from bandit.manifest import Reading

_MODELS = "models"
_ITEMS, _USERS = "item_features.json", "user_features.json"


class Networks(NamedTuple):
    """Contents of a bundle's optional files.

    Attributes:
        models: by their names in `bandit.models`.
        item_features, user_features: how rows are read; None where the networks do not read columns one by one.
    """

    models: Mapping[str, bytes] = MappingProxyType({})
    item_features: Reading | None = None
    user_features: Reading | None = None


def save(networks: Networks, folder: Path) -> None:
    """Write to a folder, which exists."""
    (folder / _MODELS).mkdir(exist_ok=True)
    for name, content in networks.models.items():
        (folder / _MODELS / name).write_bytes(content)
    for name, reading in ((_ITEMS, networks.item_features), (_USERS, networks.user_features)):
        if reading is not None:
            (folder / name).write_text(reading.model_dump_json())


def load(folder: Path) -> Networks:
    """Read what `save` wrote; a folder without it gives none."""
    models = {path.name: path.read_bytes() for path in sorted((folder / _MODELS).glob("*"))}
    readings = (
        Reading.model_validate_json(path.read_text()) if path.exists() else None
        for path in (folder / _ITEMS, folder / _USERS)
    )
    return Networks(models, *readings)
