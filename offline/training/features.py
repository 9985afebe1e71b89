"""What is known of all items and users, as the configured towers read it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit.manifest import Reading
from offline.config import Train
from offline.data.dataset import Dataset
from offline.data.timelines import Timelines, popularity
from offline.features import fields, tokens
from offline.text import columns, encoder
from offline.text.encoder import Encoder
from offline.training import rows


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
    if config.tower != "hiformer":
        buckets, width = config.feature_buckets, config.tokens_per_row
        known_items, known_users = _known(dataset, timelines)
        return Features(
            tokens.bags(dataset.items, "item_id", known_items, buckets, width),
            tokens.bags(dataset.users, "user_id", known_users, buckets, width),
        )
    of_items, of_users = readings(dataset, timelines, config)
    items = fields.read(dataset.items, of_items)
    if text is not None:
        items = items._replace(vectors=(text.encode(columns.texts(dataset.items, "item_id")),))
    return Features(items, fields.read(dataset.users, of_users))


def text_encoder(dataset: Dataset, timelines: Timelines, config: Train) -> Encoder | None:
    """The encoder of items' text, fitted to that of items in `timelines`; None where there is none or no use for it."""
    if config.tower != "hiformer":
        return None
    sold = popularity(timelines, len(dataset.items)) > 0
    return encoder.fit(config.text, columns.texts(dataset.items.filter(sold), "item_id"))


def readings(dataset: Dataset, timelines: Timelines, config: Train) -> tuple[Reading, Reading]:
    """How items and users are read for Hiformers."""
    buckets, width = config.feature_buckets, config.tokens_per_row
    known_items, known_users = _known(dataset, timelines)
    return (
        fields.learn(dataset.items, "item_id", known_items, buckets, width),
        fields.learn(dataset.users, "user_id", known_users, buckets, width),
    )


def _known(dataset: Dataset, timelines: Timelines) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """bool[J] and bool[U], the items and users of `timelines`."""
    return (
        np.bincount(timelines.items, minlength=len(dataset.items)) > 0,
        np.bincount(timelines.users, minlength=len(dataset.users)) > 0,
    )


def places(features: Any, buckets: int | None) -> tuple[NDArray[np.int32], Any]:
    """The buckets int32[R] that some rows' words are in, and the rows with the words as places among these.

    Args:
        features: `tokens.bags` or `fields.fields` of some rows.
        buckets: of the table of words, None where there is none.
    """
    words = list(features.words) if isinstance(features, fields.Fields) else [features]
    touched, found = rows.distinct(words, buckets or 1)
    return touched, features._replace(words=tuple(found)) if isinstance(features, fields.Fields) else found[0]
