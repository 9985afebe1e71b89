import numpy as np
import pytest
from flax import nnx

from offline.config import Train
from offline.features.fields import Fields
from offline.towers.hiformer_user import HiformerUserTower
from offline.towers.parameters import single_interest, user_parameters
from tests.offline.conftest import INTERESTS
from tests.offline.towers.models import filled

NOTHING = Fields((), np.zeros((2, 0), np.float32))
COUNTRY = Fields((np.array([[1], [2]], np.int32),), np.zeros((2, 1), np.float32))


def test_counts_every_number_of_a_tower() -> None:
    state = nnx.state(filled(lambda: HiformerUserTower(COUNTRY, INTERESTS, nnx.Rngs(0))), nnx.Param)
    assert user_parameters(INTERESTS, COUNTRY) == sum(value[...].size for _, value in nnx.to_flat_state(state))


@pytest.mark.parametrize("like", [NOTHING, COUNTRY], ids=["nothing", "country"])
@pytest.mark.parametrize("config", [INTERESTS, INTERESTS.model_copy(update={"interests": 4}), Train()])
def test_one_interest_has_as_many_parameters_within_a_hundredth(config: Train, like: Fields) -> None:
    single = single_interest(config, like)
    assert single.interests == 1
    assert user_parameters(single, like) == pytest.approx(user_parameters(config, like), rel=0.01)
