"""A small shop with three tastes, so that there is something to learn and everything is quick."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.progress import Progress

from bandit.bundle import Bundle
from offline import publishing
from offline.config import Build, Density, Prepare, Rank, Train
from offline.data import dataset, tables
from offline.data.dataset import Dataset
from offline.training import search
from offline.training.search import Trained


def pytest_configure(config: pytest.Config) -> None:
    # Ibis 12 calls a method that DuckDB 2 renamed.
    config.addinivalue_line("filterwarnings", "ignore:fetch_arrow_table:DeprecationWarning")


START = datetime(2024, 1, 1, tzinfo=UTC)
TEST_START = START + timedelta(days=80)
NUM_USERS, NUM_ITEMS, TASTES = 45, 30, 3
TRAIN = Train(
    tower="two_tower",
    interests=1,
    dimension=16,
    history_length=12,
    feature_buckets=64,
    hidden=8,
    visits_per_batch=32,
    targets_per_visit=2,
    learning_rate=0.02,
    max_epochs=3,
    validation_cutoff=10,
    checkpoint_steps=100,
    density=Density(kind="none"),
)
INTERESTS = Train.model_validate(
    {
        **TRAIN.model_dump(),
        "tower": "hiformer",
        "interests": 2,
        "hiformer": {"heads": 2, "key_width": 4, "value_width": 4, "key_rank": 8, "value_rank": 8},
        "text": {"encoder": "tfidf", "dimension": 4},
    }
)
"""Two interests a user, from Hiformers that also read items' text."""
RANK = Rank.model_validate(
    {
        "enabled": True,
        "width": 8,
        "history_length": 12,
        "hiformer": {"heads": 2, "key_width": 4, "value_width": 4, "key_rank": 4, "value_rank": 4},
        "candidates": 20,
        "visits_per_batch": 32,
        "targets_per_visit": 2,
        "negatives_per_visit": 8,
        "learning_rate": 0.02,
        "max_epochs": 2,
    }
)
BUILD = Build(min_clusters=6, clusters_per_user=3, edges_per_cluster=10, clusters_per_item=2)


def interactions(seed: int = 0) -> pa.Table:
    """Users buy two items a visit, mostly of their taste, on 20 of 100 days; items 27–29 in the test period only."""
    generator = np.random.default_rng(seed)
    rows = []
    for user in range(NUM_USERS):
        for day in np.sort(generator.choice(100, size=20, replace=False)):
            taste = user % TASTES if generator.random() < 0.9 else generator.integers(TASTES)
            last = NUM_ITEMS // TASTES - (day < 80)
            for place in generator.choice(last, size=2, replace=False):
                item = place * TASTES + taste
                rows.append((f"u{user:02}", f"i{item:02}", START + timedelta(days=int(day), seconds=user)))
    users, items, times = zip(*sorted(rows, key=lambda row: (row[2], row[1])), strict=True)
    return pa.table({"user_id": users, "item_id": items, "timestamp": pa.array(times, pa.timestamp("us", "UTC"))})


def catalogue() -> pa.Table:
    """Items with a word for their taste and a price."""
    numbers = range(NUM_ITEMS)
    return pa.table(
        {
            "item_id": [f"i{number:02}" for number in numbers],
            "description": [f"{('RED', 'GREEN', 'BLUE')[number % TASTES]} thing" for number in numbers],
            "price": [float(number) for number in numbers],
        }
    )


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with interactions.parquet and items.parquet as a user would bring them."""
    folder = tmp_path_factory.mktemp("shop")
    pq.write_table(interactions(), folder / "interactions.parquet")
    pq.write_table(catalogue(), folder / "items.parquet")
    return folder


@pytest.fixture(scope="session")
def prepared(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop's prepared tables."""
    folder = tmp_path_factory.mktemp("prepared")
    config = Prepare(interactions=shop / "interactions.parquet", items=shop / "items.parquet", test_start=TEST_START)
    tables.prepare(config, folder)
    return folder


@pytest.fixture(scope="session")
def data(prepared: Path) -> Dataset:
    """The shop's data set."""
    return dataset.load(prepared)


@pytest.fixture(scope="session")
def trained(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The towers, trained on the shop."""
    with Progress(disable=True) as progress:
        return search.train(data, TRAIN, tmp_path_factory.mktemp("checkpoints"), progress)


@pytest.fixture(scope="session")
def draft(data: Dataset, trained: Trained) -> Bundle:
    """The shop's bundle, not yet published."""
    return publishing.assemble(data, trained.vectors, BUILD)
