"""Where time is cut: training before, test from `test_start` on; validation is the last part of training."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from offline.errors import DataError


class Split(BaseModel):
    """Two moments (UTC). Nothing at or after `test_start` reaches training; selection uses what lies between them."""

    model_config = ConfigDict(frozen=True)

    validation_start: datetime
    test_start: datetime


def cut(
    first: datetime, last: datetime, test_start: datetime | None, test_share: float, validation_share: float
) -> Split:
    """Cut a span of time.

    Args:
        first, last: the first and last interaction's time.
        test_start: where the test period starts; None takes the last `test_share` of the span. Later than `last`
            leaves no test period.
        test_share, validation_share: shares of the whole span and of the training period.

    Raises:
        DataError: nothing lies before `test_start`.
    """
    start = test_start if test_start is not None else first + (last - first) * (1 - test_share)
    if start <= first:
        raise DataError(
            f"the test period starts {start:%Y-%m-%d %H:%M:%S}, but the first interaction is of "
            f"{first:%Y-%m-%d %H:%M:%S}: nothing is left to train on; pass a later --test-start"
        )
    end = min(start, last + timedelta(microseconds=1))
    return Split(validation_start=end - (end - first) * validation_share, test_start=start)
