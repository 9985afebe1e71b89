"""What is known of all items and users, as the configured towers read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from offline.config import Train
from offline.data.dataset import Dataset
from offline.data.timelines import Timelines
from offline.features import fields, tokens


class Features(NamedTuple):
    """What is known of all J items and U users, as the configured towers read it: `tokens.bags` or `fields.fields`."""

    items: Any
    users: Any


def describe(dataset: Dataset, timelines: Timelines, config: Train) -> Features:
    """Features of all items and users; what is learned of features is learned from those in `timelines`."""
    items = np.bincount(timelines.items, minlength=len(dataset.items)) > 0
    users = np.bincount(timelines.users, minlength=len(dataset.users)) > 0
    buckets, width = config.feature_buckets, config.tokens_per_row
    read: Callable[..., Any] = fields.fields if config.tower == "hiformer" else tokens.bags
    return Features(
        read(dataset.items, "item_id", items, buckets, width),
        read(dataset.users, "user_id", users, buckets, width),
    )
