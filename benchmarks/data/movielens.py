"""MovieLens-1M (Harper and Konstan 2015): did a user like a film, 4 or 5 stars of 5?

1,000,209 ratings at random in ten parts: eight to learn from, one to validate, one to test. A user is an id, gender,
age, occupation and the first digit of the zip code; a film is an id, its genres and its year, the one number.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.clicks import AbsentDataError, Clicks, Rows, take

OBTAIN = (
    "MovieLens-1M is not in {folder}: put users.dat, movies.dat and ratings.dat of https://grouplens.org/datasets/"
    "movielens/1m/ there. It is free for research and may not be passed on."
)
SPLIT_SEED = 2023
EMPTY = -1


def read(root: Path) -> Clicks:
    """Read ml-1m under a folder. Raises AbsentDataError."""
    folder = root / "ml-1m"
    if not (folder / "users.dat").exists() or not (folder / "movies.dat").exists():
        raise AbsentDataError(OBTAIN.format(folder=folder))
    user_ids, users, user_sizes = _users(folder / "users.dat")
    film_ids, films, years, film_sizes = _films(folder / "movies.dat")
    ratings = _ratings(folder)
    user, film = np.searchsorted(user_ids, ratings[:, 0]), np.searchsorted(film_ids, ratings[:, 1])
    rows = Rows(
        np.concatenate([users[user], films[film]], axis=1),
        years[film, None],
        (ratings[:, 2] >= 4).astype(np.float32),
    )
    order = np.random.default_rng(SPLIT_SEED).permutation(len(ratings))
    train, validation, test = np.split(order, [len(order) * 8 // 10, len(order) * 9 // 10])
    genres = films.shape[1] - 1
    return Clicks(
        (*user_sizes, *film_sizes),
        (*(1 for _ in user_sizes), 1, genres),
        *(take(rows, places) for places in (train, validation, test)),
    )


def _users(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int32], tuple[int, ...]]:
    """Ids in order; id, gender, age, occupation and the zip code's first digit, as places; sizes of their fields."""
    fields = sorted((line.split("::") for line in path.read_text(encoding="latin-1").splitlines()), key=_number)
    columns = zip(*((user, gender, age, job, code[0]) for user, gender, age, job, code in fields), strict=True)
    places = [np.unique(column, return_inverse=True)[1].astype(np.int32) for column in columns]
    sizes = tuple(int(column.max()) + 1 for column in places)
    return np.array([int(user) for user, *_ in fields]), np.stack(places, axis=1), sizes


def _films(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32], tuple[int, int]]:
    """Ids in order; place of the id and of up to as many genres as a film has; years, scaled; sizes of both fields."""
    fields = sorted((line.split("::") for line in path.read_text(encoding="latin-1").splitlines()), key=_number)
    words = [genres.split("|") for *_, genres in fields]
    names = sorted({word for film in words for word in film})
    places = np.full((len(fields), 1 + max(map(len, words))), EMPTY, np.int32)
    places[:, 0] = np.arange(len(fields))
    for row, film in enumerate(words):
        places[row, 1 : 1 + len(film)] = [names.index(word) for word in film]
    years = np.array([int(title.rstrip()[-5:-1]) for _, title, _ in fields], np.float32)
    scaled = (years - years.mean()) / years.std()
    return np.array([int(film) for film, *_ in fields]), places, scaled, (len(fields), len(names))


def _ratings(folder: Path) -> NDArray[np.int64]:
    """User, film and stars of all ratings, as int64[N, 3]; the original file, or a table with a line of titles."""
    if (folder / "ratings.dat").exists():
        lines = (folder / "ratings.dat").read_text().replace("::", ",").splitlines()
        return np.loadtxt(lines, delimiter=",", usecols=(0, 1, 2), dtype=np.int64)
    for table in (folder / "ratings.csv", folder / "ratings.csv.gz"):
        if table.exists():  # numpy unpacks what is gzipped
            return np.loadtxt(table, delimiter=",", skiprows=1, dtype=np.int64)
    raise AbsentDataError(OBTAIN.format(folder=folder))


def _number(fields: list[str]) -> int:
    return int(fields[0])
