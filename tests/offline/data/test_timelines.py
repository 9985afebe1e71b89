import numpy as np

from offline.data import timelines as tl
from offline.data.timelines import PAD


def three_users() -> tl.Timelines:
    users = np.array([1, 0, 1, 0, 0], dtype=np.int32)
    items = np.array([7, 5, 6, 4, 3], dtype=np.int32)
    times = np.array([30, 20, 10, 10, 20], dtype=np.int64)
    return tl.sort(users, items, times, num_users=3)


def test_sort_orders_by_user_time_and_item() -> None:
    timelines = three_users()
    assert timelines.users.tolist() == [0, 0, 0, 1, 1]
    assert timelines.items.tolist() == [4, 3, 5, 6, 7]
    assert timelines.starts.tolist() == [0, 3, 5, 5]


def test_before_keeps_what_is_strictly_earlier() -> None:
    assert tl.before(three_users(), 20).items.tolist() == [4, 6]
    assert tl.before(three_users(), 20).starts.tolist() == [0, 1, 2, 2]


def test_visits_are_a_users_interactions_at_one_moment() -> None:
    visits = tl.visits(three_users())
    assert visits.users.tolist() == [0, 0, 1, 1]
    assert visits.first.tolist() == [0, 1, 3, 4]
    assert visits.size.tolist() == [1, 2, 1, 1]


def test_histories_hold_only_what_the_user_did_before() -> None:
    timelines = three_users()
    visits = tl.visits(timelines)
    found = tl.histories(timelines, visits.users, visits.first, length=2)
    assert found.tolist() == [[PAD, PAD], [4, PAD], [PAD, PAD], [6, PAD]]


def test_latest_is_cut_to_the_length_and_empty_for_the_inactive() -> None:
    found = tl.latest(three_users(), np.array([0, 2], dtype=np.int32), length=2)
    assert found.tolist() == [[5, 3], [PAD, PAD]]


def test_the_head_is_the_share_that_was_taken_most_and_one_at_least() -> None:
    users, items = np.array([0, 0, 0, 1], dtype=np.int32), np.array([2, 2, 4, 1], dtype=np.int32)
    some = tl.sort(users, items, np.arange(4), 2)
    assert np.flatnonzero(tl.is_head(some, 5)).tolist() == [2]
    assert np.flatnonzero(tl.is_head(some, 5, 0.4)).tolist() == [1, 2]
    assert np.flatnonzero(tl.is_head(some, 5, 0.01)).tolist() == [2]


def test_popularity_counts() -> None:
    assert tl.popularity(three_users(), 9).tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 0]


def test_since_keeps_the_rest_of_before() -> None:
    assert tl.since(three_users(), 20).items.tolist() == [3, 5, 7]
    assert tl.since(three_users(), 20).starts.tolist() == [0, 2, 3, 3]


def test_taken_is_what_each_of_some_users_took() -> None:
    found = tl.taken(three_users(), np.array([2, 1, 0], dtype=np.int32), 9)
    assert [np.flatnonzero(row).tolist() for row in found] == [[], [6, 7], [3, 4, 5]]
    assert tl.taken(three_users(), np.array([2], dtype=np.int32), 9).tolist() == [[False] * 9]
