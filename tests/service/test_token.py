import string
from base64 import urlsafe_b64decode, urlsafe_b64encode

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.token import NO_EDGE, SEAL_BYTES, AttributionToken, TokenError, decode, encode, to_text
from tests.service.tokens import ISSUED_MS, KEYS, LIFE_S, a_token, tokens

ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


def assert_same(read: AttributionToken, written: AttributionToken) -> None:
    for field, left, right in zip(written._fields, read, written, strict=True):
        if isinstance(right, np.ndarray):
            np.testing.assert_array_equal(left, right, err_msg=field)
        else:
            assert left == right, field


def to_bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@given(tokens(), st.sampled_from(sorted(KEYS)))
def test_a_token_reads_as_it_was_written(token: AttributionToken, key_id: int) -> None:
    text = encode(token, key_id, KEYS[key_id])
    assert set(text) <= set(ALPHABET)
    assert_same(decode(text, KEYS), token)


@given(tokens())
def test_equal_slates_have_equal_tokens(token: AttributionToken) -> None:
    text = encode(token, 1, KEYS[1])
    assert encode(decode(text, KEYS), 1, KEYS[1]) == text


def test_arrays_have_the_types_that_the_fold_calculates_in() -> None:
    read = decode(encode(a_token(), 1, KEYS[1]), KEYS)
    types = [str(array.dtype) for array in (read.clusters, read.weights, read.items, read.flags, read.slots)]
    assert types == ["uint32", "int64", "uint32", "uint8", "int32"]
    assert read.slots.tolist() == [[0, 5, 2], [1, NO_EDGE, 3], [7, 6, 0]]


def test_the_recommendation_id_and_the_expiry_follow_from_the_token() -> None:
    token = a_token()
    assert len(token.recommendation_id) == 22
    assert to_bytes(token.recommendation_id) == token.request_id
    assert token.expires_ms == ISSUED_MS + LIFE_S * 1000


def test_every_altered_character_is_refused() -> None:
    text = encode(a_token(), 1, KEYS[1])
    for at, character in enumerate(text):
        others = [ALPHABET[(ALPHABET.index(character) + step) % 64] for step in (1, 2, 17, 32, 63)]
        for other in [*others, "=", "+", "/", ".", " ", "\n", "é", "\0"]:
            with pytest.raises(TokenError):
                decode(text[:at] + other + text[at + 1 :], KEYS)


def test_every_altered_byte_is_refused() -> None:
    data = to_bytes(encode(a_token(), 1, KEYS[1]))
    for at, byte in enumerate(data):
        for change in (1, 2, 16, 128, 255):
            with pytest.raises(TokenError):
                decode(to_text(data[:at] + bytes([byte ^ change]) + data[at + 1 :]), KEYS)


def test_every_shortened_and_every_lengthened_token_is_refused() -> None:
    text = encode(a_token(), 1, KEYS[1])
    data = to_bytes(text)
    for length in range(len(text)):
        with pytest.raises(TokenError):
            decode(text[:length], KEYS)
    for length in range(len(data)):
        with pytest.raises(TokenError):
            decode(to_text(data[:length]), KEYS)
    for more in [*ALPHABET, "=", "==", "====", "AA", "AAA", "AAAA", " ", "\n", "!"]:
        with pytest.raises(TokenError):
            decode(text + more, KEYS)
        with pytest.raises(TokenError):
            decode(more + text, KEYS)


@pytest.mark.parametrize("arm", ["a", "ab", "abc"])
def test_a_token_has_one_spelling(arm: str) -> None:
    """The last character's spare bits and the padding decode to nothing, so they could be changed unseen."""
    text = encode(a_token(arm=arm), 1, KEYS[1])
    data = to_bytes(text)
    for last in ALPHABET:
        spelled = text[:-1] + last
        if spelled != text:
            with pytest.raises(TokenError):
                decode(spelled, KEYS)
    padded = urlsafe_b64encode(data).decode()
    assert padded.rstrip("=") == text
    if padded != text:
        with pytest.raises(TokenError, match="not base64url"):
            decode(padded, KEYS)


def test_the_spellings_above_cover_every_length_of_padding() -> None:
    assert {len(encode(a_token(arm=arm), 1, KEYS[1])) % 4 for arm in ("a", "ab", "abc")} == {0, 2, 3}


def test_one_tokens_seal_does_not_fit_another() -> None:
    one, other = (to_bytes(encode(a_token(user=user), 1, KEYS[1])) for user in (b"1" * 16, b"2" * 16))
    with pytest.raises(TokenError, match="altered or forged"):
        decode(to_text(one[:-SEAL_BYTES] + other[-SEAL_BYTES:]), KEYS)


@pytest.mark.parametrize("text", ["", "A", "AAAA", "not a token", "ü", "{}", "A" * 85, "A" * 4096])
def test_what_was_never_a_token_is_refused(text: str) -> None:
    with pytest.raises(TokenError):
        decode(text, KEYS)


@given(st.text(max_size=200) | st.binary(max_size=400).map(to_text))
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(TokenError):
        decode(text, KEYS)


def test_an_unknown_key_is_refused_and_so_is_the_wrong_secret() -> None:
    text = encode(a_token(), 9, b"retired")
    with pytest.raises(TokenError, match="key or layout that is not known"):
        decode(text, KEYS)
    with pytest.raises(TokenError, match="altered or forged"):
        decode(text, {9: b"guessed"})


def test_another_layout_is_refused() -> None:
    data = to_bytes(encode(a_token(), 1, KEYS[1]))
    with pytest.raises(TokenError, match="key or layout that is not known"):
        decode(to_text(b"\2" + data[1:]), KEYS)


def test_keys_rotate_without_a_gap() -> None:
    """A fold gets the new key before servers sign with it, and the old one verifies until its tokens are gone."""
    old, new = {1: b"old"}, {2: b"new"}
    before, after = encode(a_token(), 1, b"old"), encode(a_token(), 2, b"new")
    for text in (before, after):
        assert_same(decode(text, old | new), a_token())
    with pytest.raises(TokenError):
        decode(before, new)
    with pytest.raises(TokenError):
        decode(after, old)


def test_twenty_items_take_about_460_characters() -> None:
    rng = np.random.default_rng(0)
    present = np.arange(100).reshape(20, 5) % 2 == 0

    def size(slot: int) -> int:
        token = a_token(
            clusters=np.arange(5, dtype=np.uint32),
            weights=np.full(5, 6553),
            items=rng.integers(0, 2**32, size=20, dtype=np.uint32),
            flags=np.zeros(20, dtype=np.uint8),
            slots=np.where(present, slot, NO_EDGE).astype(np.int32),
        )
        return len(encode(token, 1, KEYS[1]))

    assert size(150) < 430
    assert size(500) <= 500
