from pathlib import Path

from rich.progress import Progress

from offline.data.dataset import Dataset, microseconds
from offline.data.timelines import before
from offline.training.features import describe
from offline.training.loop import Training
from tests.offline.conftest import TRAIN


def test_stops_when_validation_no_longer_improves(data: Dataset, tmp_path: Path) -> None:
    earlier = before(data.timelines, microseconds(data.split.validation_start))
    features = describe(data, earlier, TRAIN)
    config = TRAIN.model_copy(update={"max_epochs": 20, "patience": 2})
    training = Training(earlier, len(data.items), features, config, tmp_path)
    recalls = iter([0.1, 0.3, 0.2, 0.25, 0.9])
    with Progress(disable=True) as progress:
        record = training.run(20, progress, "search", lambda _: next(recalls))
    assert record == [0.1, 0.3, 0.2, 0.25]
