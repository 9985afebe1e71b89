"""What is known of all items and users, as the configured towers read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from offline.config import Train
from offline.data.dataset import Dataset
from offline.data.timelines import Timelines, popularity
from offline.features import fields, tokens
from offline.text import columns, encoder
from offline.text.encoder import Encoder


class Features(NamedTuple):
    """What is known of all J items and U users, as the configured towers read it: `tokens.bags` or `fields.fields`."""

    items: Any
    users: Any


def describe(dataset: Dataset, timelines: Timelines, config: Train, text: Encoder | None = None) -> Features:
    """Features of all items and users; what is learned of features is learned from those in `timelines`.

    Args:
        dataset: J items, U users.
        timelines: the interactions that training sees.
        config: how features are read.
        text: as `text_encoder` fits it to the same timelines; None for towers that read words alone.
    """
    items = popularity(timelines, len(dataset.items)) > 0
    users = np.bincount(timelines.users, minlength=len(dataset.users)) > 0
    buckets, width = config.feature_buckets, config.tokens_per_row
    read: Callable[..., Any] = fields.fields if config.tower == "hiformer" else tokens.bags
    found = read(dataset.items, "item_id", items, buckets, width)
    if text is not None:
        found = found._replace(vectors=(text.encode(columns.texts(dataset.items, "item_id")),))
    return Features(found, read(dataset.users, "user_id", users, buckets, width))


def text_encoder(dataset: Dataset, timelines: Timelines, config: Train) -> Encoder | None:
    """The encoder of items' text, fitted to that of items in `timelines`; None where there is none or no use for it."""
    if config.tower != "hiformer":
        return None
    sold = popularity(timelines, len(dataset.items)) > 0
    return encoder.fit(config.text, columns.texts(dataset.items.filter(sold), "item_id"))
