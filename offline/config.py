"""The configuration of a run: one section a step, every key with a default; unknown keys are refused."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from offline.data.timelines import HEAD_SHARE
from offline.errors import ConfigError

Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Synthetic(_Section):
    """Users with several interests, invented: how many, and how skewed (data_set = "synthetic").

    The powers are those of popularity's decay over clusters and over the items inside one; 0 is even. α, γ, ε: how
    likely a user stays in a liked cluster, goes to another liked one, stays in one that is not liked.
    """

    users: Annotated[int, Field(ge=2)] = 10_000
    clusters: Annotated[int, Field(ge=2)] = 5
    items_per_cluster: Positive = 10
    interests: Positive = 3
    steps: Annotated[int, Field(ge=10)] = 20
    interest_power: Annotated[float, Field(ge=0)] = 1.0
    item_power: Annotated[float, Field(ge=0)] = 0.5
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.6
    gamma: Annotated[float, Field(ge=0, le=1)] = 0.3
    epsilon: Annotated[float, Field(ge=0, lt=1)] = 0.2
    seed: int = 0

    @model_validator(mode="after")
    def _there_is_as_much_as_asked_for(self) -> Self:
        if self.interests > self.clusters:
            raise ValueError(f"{self.interests} interests need as many clusters; there are {self.clusters}")
        if self.alpha + self.gamma > 1:
            raise ValueError("alpha + gamma must be at most 1")
        return self


class Prepare(_Section):
    """Where the data is, what its columns are called, and where time is cut.

    Without `interactions` a built-in data set is used.
    """

    data_set: Literal["online-retail", "synthetic"] = "online-retail"
    synthetic: Synthetic = Synthetic()
    interactions: Path | None = None
    items: Path | None = None
    users: Path | None = None
    user_column: str = "user_id"
    item_column: str = "item_id"
    timestamp_column: str = "timestamp"
    timestamp_unit: Literal["s", "ms", "us"] = "s"
    drop_duplicates: bool = False
    drop_unknown: bool = False
    test_start: datetime | None = None
    test_share: Share = 0.2
    validation_share: Share = 0.1

    @field_validator("test_start")
    @classmethod
    def _in_utc(cls, moment: datetime | None) -> datetime | None:
        if moment is None:
            return None
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

    @model_validator(mode="after")
    def _interactions_come_with_features(self) -> Self:
        if self.interactions is None and (self.items or self.users):
            raise ValueError("items and users describe interactions of your own: name an interactions file too")
        return self


class Hiformer(_Section):
    """A Hiformer's layers; its width d is the vectors' dimension.

    Keys and values are made of each token by itself or of all tokens at once, by a full matrix or one of low rank.
    """

    layers: Positive = 1
    heads: Positive = 4
    key_width: Positive = 8
    value_width: Positive = 16
    projection: Literal["per_token", "full_rank", "low_rank"] = "low_rank"
    key_rank: Positive = 16
    value_rank: Positive = 64
    dense_tokens: Positive = 1


class Text(_Section):
    """What items' columns of text become beside single words: nothing, or one vector by an encoder."""

    encoder: Literal["none", "tfidf", "sentences"] = "tfidf"
    dimension: Positive = 128


class Density(_Section):
    """What an item's targets count in the loss, so that more than the popular is learned.

    Kind `inverse_frequency`: each item as much as any other, from the start. `density`: against the density of items in
    the space of trained towers, once. `iterative`: the same in rounds, masses moving by 1 − β, until they move by less
    than δ (of the mean mass). The density is that of `draws` items with noise (in units of the items' spread), found by
    the distance to the k-th of them (`knn`, k = `neighbours`), by kernels on 8 main components (`pca_kde`) or on all
    (`kde`: the paper's, for vectors of few dimensions). Rounds go on while the tail's recall in validation rises and no
    more than `most_loss` of plain training's recall is lost; their learning rate begins at a share of plain training's
    and falls to 0 with the last. `calibrate` then trains the user tower without weights.
    """

    kind: Literal["none", "inverse_frequency", "density", "iterative"] = "iterative"
    estimator: Literal["knn", "pca_kde", "kde"] = "knn"
    neighbours: Positive = 50
    draws: Positive = 10_000
    noise: Annotated[float, Field(ge=0)] = 0.1
    clip: Annotated[float, Field(ge=1)] = 10.0
    beta: Annotated[float, Field(ge=0, le=1)] = 0.9
    delta: Annotated[float, Field(ge=0)] = 0.05
    rounds: Positive = 6
    epochs: Positive = 1
    most_loss: Annotated[float, Field(ge=0, le=1)] = 0.03
    learning_rate_share: Annotated[float, Field(gt=0, le=1)] = 0.05
    calibrate: bool = True


class Train(_Section):
    """The two towers and their training.

    The towers are Hiformers, of which a user gets as many interests as asked, or plain networks that give one;
    `disagreement` penalises interests that look for the same items of a history. `projection` hidden units in a network
    behind each interest, 0 for none, make one interest as large a model as several are.
    """

    tower: Literal["two_tower", "hiformer"] = "hiformer"
    interests: Annotated[int, Field(ge=1, le=16)] = 4
    disagreement: Annotated[float, Field(ge=0)] = 0.0
    projection: Annotated[int, Field(ge=0)] = 0
    hiformer: Hiformer = Hiformer()
    density: Density = Density()
    text: Text = Text()
    dimension: Positive = 128
    history_length: Positive = 200
    feature_buckets: Annotated[int, Field(ge=2)] = 4096
    tokens_per_row: Positive = 16
    hidden: Positive = 128
    id_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    temperature: Annotated[float, Field(gt=0)] = 0.1
    visits_per_batch: Positive = 256
    targets_per_visit: Positive = 16
    learning_rate: Annotated[float, Field(gt=0)] = 4e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    max_epochs: Positive = 8
    patience: Positive = 2
    validation_cutoff: Positive = 50
    checkpoint_steps: Positive = 500
    seed: int = 0

    @model_validator(mode="after")
    def _several_interests_need_a_tower_that_gives_them(self) -> Self:
        if self.interests > 1 and self.tower == "two_tower":
            raise ValueError('tower two_tower gives one interest a user: set interests = 1 or tower = "hiformer"')
        return self


class Build(_Section):
    """Clusters, contexts and the sparse graph.

    Each interest of a user triggers its nearest clusters, and the user keeps the heaviest `clusters_per_user` of all.
    There are as many clusters for users of several interests as for users of one: more would learn more slowly.
    """

    users_per_cluster: Positive = 20
    min_clusters: Positive = 64
    max_clusters: Positive = 4096
    clusters_per_interest: Annotated[int, Field(ge=1, le=32)] = 5
    clusters_per_user: Annotated[int, Field(ge=1, le=32)] = 16
    mean_top_weight: Share = 0.5
    edges_per_cluster: Positive = 150
    clusters_per_item: Positive = 3
    seed: int = 0


class Rank(_Section):
    """The ranker, which orders a request's best candidates anew (`RANKER=on`); trained where it is enabled.

    Of each visit's negatives, half are drawn like targets, half from the user's `candidates` best of the graph.
    """

    enabled: bool = False
    width: Positive = 32
    history_length: Positive = 100
    hiformer: Hiformer = Hiformer(key_rank=16, value_rank=32)
    id_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    candidates: Positive = 200
    visits_per_batch: Positive = 64
    targets_per_visit: Positive = 8
    negatives_per_visit: Annotated[int, Field(ge=2)] = 64
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    max_epochs: Positive = 3
    patience: Positive = 1
    validation_cutoff: Positive = 10
    checkpoint_steps: Positive = 500
    seed: int = 0

    @model_validator(mode="after")
    def _it_can_be_split(self) -> Self:
        if self.hiformer.layers != 1 or self.hiformer.projection == "per_token":
            raise ValueError("the ranker is split in halves: hiformer.layers = 1, projection low_rank or full_rank")
        return self


class Evaluate(_Section):
    """What the report measures."""

    cutoffs: tuple[Positive, ...] = (10, 20, 50, 100)
    head_share: Share = HEAD_SHARE


class Publish(_Section):
    """What the bundle tells the service beside its arrays, and whose learning it carries on.

    `parent` is a version, `newest` for the newest one that is there, or `none`.
    """

    parent: str = "newest"
    reward_table: dict[str, float] = {"click": 1.0}


class Config(_Section):
    """A whole run."""

    prepare: Prepare = Prepare()
    train: Train = Train()
    build: Build = Build()
    rank: Rank = Rank()
    evaluate: Evaluate = Evaluate()
    publish: Publish = Publish()


QUICK: dict[str, dict[str, Any]] = {
    "train": {
        "dimension": 16,
        "history_length": 20,
        "hidden": 16,
        "max_epochs": 1,
        "feature_buckets": 256,
        "density": {"kind": "none"},
    },
    "rank": {"width": 8, "history_length": 20, "candidates": 50, "max_epochs": 1},
}
"""A run that ends soon, to try things out; its recommendations are poor."""


def load(path: Path | None, overrides: dict[str, dict[str, Any]]) -> Config:
    """Read a TOML file (paths in it are relative to it) and put `overrides` (section → key → value) on top.

    Raises:
        ConfigError: the file is missing or no TOML, or a key is unknown or out of range.
    """
    sections: dict[str, Any] = {}
    if path is not None:
        try:
            sections = tomllib.loads(path.read_text())
        except FileNotFoundError as error:
            raise ConfigError(f"{path}: no such file") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not valid TOML: {error}") from error
        prepare = sections.get("prepare")
        if isinstance(prepare, dict):
            for key in ("interactions", "items", "users"):
                if isinstance(prepare.get(key), str):
                    prepare[key] = path.parent / prepare[key]
    for section, values in overrides.items():
        known = sections.setdefault(section, {})
        if isinstance(known, dict):
            given = {key: value for key, value in values.items() if value is not None}
            nested = {key: {**known.get(key, {}), **value} for key, value in given.items() if isinstance(value, dict)}
            known.update(given | nested)
    try:
        return Config.model_validate(sections)
    except ValidationError as error:
        faults = [_fault(fault["loc"], fault["msg"], path, overrides) for fault in error.errors()]
        raise ConfigError("\n".join(faults)) from error


def _fault(keys: tuple[int | str, ...], message: str, path: Path | None, overrides: dict[str, dict[str, Any]]) -> str:
    section, key = (*map(str, keys), "", "")[:2]
    given = overrides.get(section, {}).get(key) is not None
    where = "command line" if given or path is None else str(path)
    return f"{where}: {'.'.join(map(str, keys)) or 'the file'}: {message}"
