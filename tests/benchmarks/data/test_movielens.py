from pathlib import Path

import numpy as np
import pytest

from benchmarks.data import movielens
from benchmarks.data.clicks import AbsentDataError

USERS = "2::M::56::16::70072\n1::F::1::10::48067\n"
FILMS = "7::Heat (1995)::Action|Crime\n3::Café (1946)::Drama\n9::Up (2009)::Crime\n"
RATINGS = [(user, film, stars) for user in (1, 2) for film, stars in ((3, 4), (7, 3), (9, 5))]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    (folder / "users.dat").write_text(USERS, encoding="latin-1")
    (folder / "movies.dat").write_text(FILMS, encoding="latin-1")
    lines = [f"{user}::{film}::{stars}::978300760\n" for user, film, stars in RATINGS * 5]
    (folder / "ratings.dat").write_text("".join(lines))
    return tmp_path


def test_a_rating_is_a_user_a_film_and_whether_it_was_liked(root: Path) -> None:
    clicks = movielens.read(root)
    assert (clicks.sizes, clicks.columns) == ((2, 2, 2, 2, 2, 3, 3), (1, 1, 1, 1, 1, 1, 2))
    assert [len(part.labels) for part in clicks[2:]] == [24, 3, 3]
    ids, numbers, labels = (
        np.concatenate([getattr(part, name) for part in clicks[2:]]) for name in clicks.train._fields
    )
    # Film 3 is drama, film 7 action and crime, film 9 crime; genres in alphabetical order.
    assert {tuple(row) for row in ids[:, 5:]} == {(0, 2, -1), (1, 0, 1), (2, 1, -1)}
    assert {tuple(row) for row in ids[:, :5]} == {(0, 0, 0, 0, 0), (1, 1, 1, 1, 1)}
    assert (labels == (ids[:, 5] != 1)).all()
    years = np.array([1946, 1995, 2009])
    assert np.allclose(numbers[:, 0], ((years - years.mean()) / years.std())[ids[:, 5]], atol=1e-5)


def test_the_split_is_the_same_each_time_and_ratings_may_be_a_table(root: Path) -> None:
    first = movielens.read(root)
    (root / "ml-1m" / "ratings.dat").unlink()
    lines = [f"{user},{film},{stars}\n" for user, film, stars in RATINGS * 5]
    (root / "ml-1m" / "ratings.csv").write_text("user,item,rating\n" + "".join(lines))
    second = movielens.read(root)
    for one, other in zip(first[2:], second[2:], strict=True):
        assert all(np.array_equal(mine, its) for mine, its in zip(one, other, strict=True))


def test_says_how_to_obtain_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AbsentDataError, match="grouplens"):
        movielens.read(tmp_path)
    (tmp_path / "ml-1m").mkdir()
    (tmp_path / "ml-1m" / "users.dat").write_text(USERS)
    (tmp_path / "ml-1m" / "movies.dat").write_text(FILMS)
    with pytest.raises(AbsentDataError, match="ratings"):
        movielens.read(tmp_path)
