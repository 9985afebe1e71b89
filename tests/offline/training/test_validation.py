from offline.data.dataset import Dataset, microseconds
from offline.data.timelines import before
from offline.training.features import describe
from offline.training.validation import Validation
from tests.offline.conftest import TRAIN


def test_validation_knows_users_of_both_periods_alone(data: Dataset) -> None:
    start = microseconds(data.split.validation_start)
    earlier = before(data.timelines, start)
    validation = Validation(data, earlier, describe(data, earlier, TRAIN), TRAIN)
    later = data.timelines.times >= start
    assert set(validation.users) == set(data.timelines.users[later]) & set(data.timelines.users[~later])
    assert validation.relevant.sum() == len(
        {
            pair
            for pair in zip(data.timelines.users[later], data.timelines.items[later], strict=True)
            if pair[0] in set(validation.users)
        }
    )
