"""The manifest: a bundle's table of contents, and the constants by which its feedback is read."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from bandit.context import UNIT

SCHEMA_VERSION = 1
Share = Annotated[float, Field(ge=0, le=1)]


class Counts(BaseModel):
    """How large the bundle is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    users: int = Field(ge=0)
    items: int = Field(ge=1)
    clusters: int = Field(ge=1)
    edges: int = Field(ge=1)
    clusters_per_user: int = Field(ge=1, le=32)


class Column(BaseModel):
    """How a column of a table becomes a feature.

    Words are hashed (`offline.features.tokens`); a number x becomes (sign(x)·log(1 + |x|) − mean) / deviation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Literal["words", "number"]
    mean: float = 0.0
    deviation: float = Field(1.0, gt=0)


class Reading(BaseModel):
    """How rows of a table are read by the networks: its columns in the order of their inputs, words before numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    buckets: int = Field(ge=2)
    words_per_row: int = Field(ge=1)
    columns: list[Column]


class Manifest(BaseModel):
    """What `manifest.json` holds.

    The reward table gives each reward's name a weight; a reward adds weight × value, and weights add up to at most 1,
    so an item's total stays in [0, 1]. The examination table gives the probability that each slot of a slate was
    looked at; slots past its end count fully.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    created_at: datetime
    parent_version: str | None = None
    counts: Counts
    temperature: float = Field(gt=0)
    informed_prior: bool = True
    reward_table: dict[str, Share] = {"click": 1.0}
    examination_table: list[Share] = []
    item_features: Reading | None = None
    user_features: Reading | None = None
    config: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    git_commit: str | None = None
    checksums: dict[str, str] = {}

    @field_validator("reward_table")
    @classmethod
    def _weights_stay_in_one(cls, table: dict[str, float]) -> dict[str, float]:
        if not table:
            raise ValueError("the reward table is empty: name at least one reward")
        if sum(table.values()) > 1 + 1e-9:
            raise ValueError(f"the reward table's weights add up to {sum(table.values()):g}, more than 1")
        return table

    def reward_units(self, name: str, value: float) -> int:
        """A reward in units of 2⁻¹⁵, floored so that an item's total never passes 32768. Raises KeyError."""
        return int(self.reward_table[name] * value * UNIT)

    def examination_units(self, position: int) -> int:
        """The examination probability of a slate's slot in units of 2⁻¹⁵."""
        table = self.examination_table
        return round(table[position] * UNIT) if position < len(table) else UNIT
