import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service import pseudonym

# Ids come from requests: anything that JSON can spell, lone surrogates included.
ids = st.text(max_size=300) | st.text(st.characters(categories=["Cs", "L"]), max_size=5)
keys = st.binary(min_size=1, max_size=64)


@given(ids, keys)
def test_pseudonyms_are_16_bytes_and_32_bits_and_always_the_same(name: str, key: bytes) -> None:
    assert len(pseudonym.of_user(name, key)) == pseudonym.USER_BYTES
    assert pseudonym.of_user(name, key) == pseudonym.of_user(name, key)
    assert 0 <= pseudonym.of_item(name, key) < 2**32
    assert pseudonym.of_item(name, key) == pseudonym.of_item(name, key)


@given(ids, ids, keys)
def test_different_users_have_different_pseudonyms(one: str, other: str, key: bytes) -> None:
    assert (pseudonym.of_user(one, key) == pseudonym.of_user(other, key)) == (one == other)


@given(ids, keys)
def test_a_session_is_never_a_user_and_neither_is_nobody(name: str, key: bytes) -> None:
    user, session = pseudonym.of_user(name, key), pseudonym.of_session(name, key)
    assert len(session) == pseudonym.USER_BYTES
    assert len({user, session, pseudonym.NOBODY}) == 3


@given(ids, keys, keys)
def test_pseudonyms_say_nothing_without_the_key(name: str, one: bytes, other: bytes) -> None:
    assert (pseudonym.of_user(name, one) == pseudonym.of_user(name, other)) == (one == other)
    assert (pseudonym.of_session(name, one) == pseudonym.of_session(name, other)) == (one == other)


def test_a_catalogues_pseudonyms_are_its_items_own() -> None:
    names = [f"item {n}" for n in range(2000)]
    found = pseudonym.of_items(names, b"key")
    assert found.dtype == np.uint32
    assert found.tolist() == [pseudonym.of_item(name, b"key") for name in names]
    assert len(set(found.tolist())) == len(names)
    assert pseudonym.of_items([], b"key").shape == (0,)


def test_pseudonyms_never_change_between_versions_of_this_program() -> None:
    """Redis keeps users' state under them, and tokens in the log hold them."""
    assert pseudonym.of_user("ü/1", b"key").hex() == "21ae9c0e1b5f41dea26a70024685f815"
    assert pseudonym.of_session("ü/1", b"key").hex() == "085cde18a20c4bd4479d6fccaa2d8f81"
    assert pseudonym.of_item("ü/1", b"key") == 2007295926


def test_chance_is_not_repeated() -> None:
    drawn = {pseudonym.by_chance() for _ in range(100)}
    assert len(drawn) == 100
    assert {len(one) for one in drawn} == {pseudonym.USER_BYTES}
