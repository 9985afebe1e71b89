import numpy as np

from offline.evaluation import ranking

SCORES = np.array([[0.1, 0.9, 0.5, 0.5], [4.0, 3.0, 2.0, 1.0]])
RELEVANT = np.array([[True, True, False, False], [False, False, False, True]])


def test_top_is_the_best_first_and_ties_go_by_number() -> None:
    assert ranking.top(SCORES, 3).tolist() == [[1, 2, 3], [0, 1, 2]]
    assert ranking.top(SCORES, 99).tolist() == [[1, 2, 3, 0], [0, 1, 2, 3]]


def test_recall_is_the_share_of_the_relevant() -> None:
    ranked = ranking.top(SCORES, 4)
    assert ranking.recall(ranked, RELEVANT, 1).tolist() == [0.5, 0.0]
    assert ranking.recall(ranked, RELEVANT, 4).tolist() == [1.0, 1.0]


def test_ndcg_discounts_late_hits() -> None:
    ranked = ranking.top(SCORES, 4)
    ideal = 1 + 1 / np.log2(3)
    assert np.allclose(ranking.ndcg(ranked, RELEVANT, 4), [(1 + 1 / np.log2(5)) / ideal, 1 / np.log2(5)])
    assert np.allclose(ranking.ndcg(ranked, RELEVANT, 1), [1.0, 0.0])
    assert np.allclose(ranking.ndcg(np.array([[0, 1], [3, 0]]), RELEVANT, 2), 1)


def test_a_catalogue_shorter_than_the_cut_off() -> None:
    ranked = ranking.top(SCORES, 100)
    assert ranking.recall(ranked, RELEVANT, 100).tolist() == [1.0, 1.0]
    assert ranking.ndcg(ranked, RELEVANT, 100).max() <= 1


def test_chunks_hold_all_users_in_order_and_few_where_there_are_many_items() -> None:
    users = np.arange(1000, 2100, dtype=np.int32)
    for num_items, most in ((10, 512), (1 << 20, 16), (1 << 30, 1)):
        parts = list(ranking.chunks(users, num_items))
        assert np.concatenate(parts).tolist() == users.tolist()
        assert max(map(len, parts)) == most


def test_the_nearest_interest_counts() -> None:
    users = np.array([[[1, 0], [0, 1]], [[-1, 0], [0.6, 0.8]]], np.float32)
    items = np.array([[1, 0], [0, 1], [-1, -1]], np.float32)
    assert np.allclose(ranking.nearest(users, items), np.array([[1, 1, -1], [0.6, 0.8, 1]]))
