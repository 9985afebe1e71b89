"""The settings as a table: what the README shows and `python -m service settings` prints."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from service.settings import Settings


def table() -> str:
    """Every setting with its default and its meaning, in Markdown."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        rows.append(f"| `{name.upper()}` | {_default(field)} | {field.description} |")
    return "\n".join(rows)


def _default(field: FieldInfo) -> str:
    return "" if field.default is None else f"`{_plain(field.default)}`"


def _plain(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        return json.dumps({str(key): _plain(item) for key, item in value.items()})
    if isinstance(value, list):
        return json.dumps([item.model_dump() if isinstance(item, BaseModel) else item for item in value])
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
