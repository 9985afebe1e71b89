import jax.numpy as jnp
import numpy as np
from flax import nnx

from offline.towers.embedding import Embedding, Table


def test_reads_rows_of_a_parameter_that_is_known_as_a_table() -> None:
    embedding = Embedding(5, 3, nnx.Rngs(0))
    table = embedding.embedding
    assert isinstance(table, Table)
    assert table.shape == (5, 3)
    assert np.array_equal(embedding(jnp.array([[4, 0], [2, 4]])), table[...][np.array([[4, 0], [2, 4]])])
    assert len(nnx.to_flat_state(nnx.state(embedding, nnx.Param))) == 1  # who asks for parameters gets tables too
