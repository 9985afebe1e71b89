import re

from hypothesis import given
from hypothesis import strategies as st

from service.store.keys import Keys, RowName, watermark_field

USER = bytes(range(16))
KEYS = Keys("om", 8)
names = st.from_regex("[A-Za-z0-9_-]{1,64}", fullmatch=True)
versions = st.from_regex("[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)


@given(st.builds(RowName, names, versions, st.integers(0, 2**32 - 1), st.integers(0, 1000)))
def test_a_rows_name_reads_as_it_was_written(name: RowName) -> None:
    assert RowName.parse(str(name)) == name


def test_keys_are_as_documented() -> None:
    """They name what lives in Redis for years."""
    row = RowName("default", "20260101T000000Z", 11)
    assert KEYS.frozen() == "om:frozen"
    assert KEYS.watermarks(3) == "om:{3}:watermarks"
    assert KEYS.changes(3) == "om:{3}:changes"
    assert KEYS.totals(3) == "om:{3}:totals"
    assert KEYS.row(row) == "om:{3}:row:default:20260101T000000Z:0:11"
    assert KEYS.user(USER, rewarded=False) == "om:{0}:user:000102030405060708090a0b0c0d0e0f:seen"
    assert KEYS.user(USER, rewarded=True) == "om:{0}:user:000102030405060708090a0b0c0d0e0f:recent"
    assert watermark_field(b"\1" * 16, 5) == "01" * 16 + ":5"


@given(st.integers(0, 2**32 - 1), st.binary(min_size=16, max_size=16), st.integers(1, 1024))
def test_all_keys_of_a_shard_carry_its_hash_tag(cluster: int, user: bytes, shards: int) -> None:
    keys = Keys("om", shards)

    def tag(key: str) -> int:
        (found,) = re.findall(r"\{(\d+)\}", key)
        return int(found)

    shard = keys.shard_of_cluster(cluster)
    assert shard == cluster % shards
    assert tag(keys.row(RowName("a", "v", cluster))) == tag(keys.watermarks(shard)) == shard
    of_user = {tag(keys.user(user, rewarded=rewarded)) for rewarded in (True, False)}
    assert of_user == {keys.shard_of_user(user)}
    assert 0 <= keys.shard_of_user(user) < shards


def test_users_are_spread_over_all_shards() -> None:
    assert {KEYS.shard_of_user(n.to_bytes(8, "little") + bytes(8)) for n in range(8)} == set(range(8))


def test_prefixes_share_no_key() -> None:
    row = RowName("default", "v", 1)
    for mine, other in (("om", "verify"), ("om", "om2")):
        assert Keys(mine, 8).row(row) != Keys(other, 8).row(row)
        assert Keys(mine, 8).frozen() != Keys(other, 8).frozen()
