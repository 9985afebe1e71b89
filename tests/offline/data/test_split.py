from datetime import UTC, datetime, timedelta

import pytest

from offline.data.split import cut
from offline.errors import DataError

FIRST = datetime(2024, 1, 1, tzinfo=UTC)
LAST = FIRST + timedelta(days=100)


def test_cuts_by_shares_of_time() -> None:
    split = cut(FIRST, LAST, None, test_share=0.2, validation_share=0.25)
    assert split.test_start == FIRST + timedelta(days=80)
    assert split.validation_start == FIRST + timedelta(days=60)


def test_cuts_where_told() -> None:
    split = cut(FIRST, LAST, FIRST + timedelta(days=50), test_share=0.2, validation_share=0.1)
    assert split.test_start == FIRST + timedelta(days=50)
    assert split.validation_start == FIRST + timedelta(days=45)


def test_a_start_after_the_end_leaves_no_test_period_and_validates_on_the_last_data() -> None:
    split = cut(FIRST, LAST, LAST + timedelta(days=900), test_share=0.2, validation_share=0.1)
    assert split.test_start > LAST
    assert FIRST + timedelta(days=90) <= split.validation_start < LAST


def test_refuses_a_start_before_everything() -> None:
    with pytest.raises(DataError, match=r"2023-01-01 .*first interaction is of 2024-01-01.*--test-start"):
        cut(FIRST, LAST, datetime(2023, 1, 1, tzinfo=UTC), test_share=0.2, validation_share=0.1)
