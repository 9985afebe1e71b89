from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.context import UNIT
from bandit.manifest import Manifest
from service.attribution import CLOCK_SKEW_MS, Reason
from service.bundles import BundleMissing
from service.feedback_log.base import Record
from service.fold.judgement import Credit, Judgement, Tally
from service.fold.window import Window
from service.token import encode
from tests.service.fold.logs import (
    NOW_MS,
    PARTITIONS,
    a_judge,
    impression,
    log,
    partition,
    record,
    reward,
)
from tests.service.tokens import ISSUED_MS, ITEMS, KEYS, LIFE_S, a_token

HERE = partition(a_token())
# Requests that share the partition.
TOKENS = [token for n in range(64) if partition(token := a_token(request_id=bytes([n]) * 16)) == HERE][:4]
CLICK, WATCH = UNIT // 4, UNIT * 3 // 4


def judge(records: Sequence[Record], kept: int = 1000, at: int = HERE) -> Judgement:
    return a_judge().judge(at, records, Window(kept))


def credited(judgement: Judgement) -> list[tuple[int, int, int | None]]:
    """(offset, positions, reward) of each credit."""
    return [(credit.offset, credit.positions, credit.reward) for credit in judgement.credits]


def test_an_impression_is_credited_with_all_that_the_fold_needs() -> None:
    judgement = judge(log(impression()))
    (credit,) = judgement.credits
    assert isinstance(credit, Credit)
    assert (credit.offset, credit.append_ms, credit.positions, credit.reward) == (0, NOW_MS, 0b111, None)
    assert credit.token.whole().slots.tolist() == a_token().slots.tolist()
    assert judgement.tallies == [Tally(0, folded=3)]
    assert judgement.dead_letters == []


def test_an_impression_and_its_reward_are_two_credits() -> None:
    judgement = judge(log(impression(), reward(), reward(name="watch", value=0.5)))
    assert credited(judgement) == [(0, 0b111, None), (1, 0b001, CLICK), (2, 0b001, WATCH // 2)]
    assert judgement.tallies == [Tally(0, folded=3), Tally(1, folded=1), Tally(2, folded=1)]


def test_a_reward_that_comes_first_implies_its_impression() -> None:
    judgement = judge(log(reward(), impression()))
    assert credited(judgement) == [(0, 0b001, CLICK), (0, 0b001, None), (1, 0b110, None)]
    assert judgement.tallies == [Tally(0, folded=1, implied=1), Tally(1, folded=2, duplicates=1)]


def test_an_impression_is_implied_once_however_many_rewards_there_are() -> None:
    judgement = judge(log(reward(), reward(name="watch"), reward()))
    assert credited(judgement) == [(0, 0b001, CLICK), (0, 0b001, None), (1, 0b001, WATCH)]
    assert judgement.tallies == [Tally(0, folded=1, implied=1), Tally(1, folded=1), Tally(2, duplicates=1)]


def test_a_reward_of_nothing_counts_and_implies_its_impression() -> None:
    judgement = judge(log(reward(value=0)))
    assert credited(judgement) == [(0, 0b001, 0), (0, 0b001, None)]


def test_retries_are_duplicates_whatever_their_value_or_order() -> None:
    judgement = judge(
        log(
            impression(items=[ITEMS[2], ITEMS[0]]),
            impression(items=[ITEMS[0], ITEMS[2]]),
            reward(value=1),
            reward(value=0.5),
            impression(),
        )
    )
    assert credited(judgement) == [(0, 0b101, None), (2, 0b001, CLICK), (4, 0b010, None)]
    assert [tally.duplicates for tally in judgement.tallies] == [0, 2, 0, 1, 2]


def test_a_record_may_hold_several_events_that_repeat_one_another() -> None:
    events = [reward(), reward(), impression(), impression(), reward(item_id=ITEMS[1])]
    judgement = judge([record(events)])
    assert credited(judgement) == [(0, 0b001, CLICK), (0, 0b001, None), (0, 0b110, None), (0, 0b010, CLICK)]
    assert judgement.tallies == [Tally(0, folded=4, duplicates=5, implied=1)]


def test_requests_do_not_share_duplicates() -> None:
    records = [record(impression(token), offset, token=token) for offset, token in enumerate(TOKENS)]
    assert [tally.folded for tally in judge(records).tallies] == [3, 3, 3, 3]


@pytest.mark.parametrize(
    ("events", "reason", "detail"),
    [
        (b"", Reason.NOT_AN_EVENT, "EOF"),
        (b"\xff\xfe", Reason.NOT_AN_EVENT, "Invalid JSON"),
        (b"{", Reason.NOT_AN_EVENT, "EOF"),
        (b"[", Reason.NOT_AN_EVENT, "EOF"),
        (b"null", Reason.NOT_AN_EVENT, "Input should be an object"),
        (b"[]", Reason.NOT_AN_EVENT, "an empty list"),
        (b" []", Reason.NOT_AN_EVENT, "Input should be an object"),
        (b"[" * 5000, Reason.NOT_AN_EVENT, "recursion"),
        ([1], Reason.NOT_AN_EVENT, "dictionary"),
        ({"type": "like"}, Reason.NOT_AN_EVENT, "'impression', 'reward'"),
        (reward(value=2), Reason.NOT_AN_EVENT, "reward.value: Input should be less than or equal to 1"),
        (reward(attribution_token="forgery/"), Reason.FORGED, "attribution_token is not base64url"),
        (reward(attribution_token=encode(a_token(), 9, b"?")), Reason.FORGED, "not known here"),
        (reward(attribution_token=encode(a_token(), 1, b"?")), Reason.FORGED, "altered or forged"),
        (reward(a_token(epoch=b"e" * 16)), Reason.OTHER_EPOCH, "another log epoch"),
        (reward(a_token(request_id=b"r" * 16)), Reason.MISPLACED, "record key or partition"),
        (reward(item_id="stranger"), Reason.NOT_IN_SLATE, "'stranger' was not in the slate"),
        (impression(items=[ITEMS[0], "stranger"]), Reason.NOT_IN_SLATE, "'stranger' was not in the slate"),
        (reward(name="like"), Reason.UNKNOWN_REWARD, "no reward 'like'; the table has click, watch"),
    ],
)
def test_what_cannot_be_folded_is_kept_with_its_reason(events: object, reason: Reason, detail: str) -> None:
    bad, good = record(events, 7), record(impression(), 8)
    judgement = judge([bad, good])
    (letter,) = judgement.dead_letters
    assert letter[:4] == (HERE, 7, 0, reason)
    assert detail in letter.detail
    assert (letter.key, letter.value) == (bad.key, bad.value)
    assert credited(judgement) == [(8, 0b111, None)]


def test_a_refused_impression_stands_for_the_items_that_can_be_told() -> None:
    elsewhere = a_token(epoch=b"e" * 16)
    said = [
        impression(elsewhere),
        impression(elsewhere, items=[ITEMS[0], ITEMS[1], ITEMS[0]]),
        impression(attribution_token="forged", items=list(ITEMS)),
        impression(attribution_token="forged"),
    ]
    assert [tally.dead_lettered for tally in judge(log(*said)).tallies] == [3, 2, 3, 1]


def test_a_record_in_another_partition_than_its_keys_is_misplaced() -> None:
    for at in range(PARTITIONS):
        reasons = [letter.reason for letter in judge(log(impression()), at=at).dead_letters]
        assert reasons == ([] if at == HERE else [Reason.MISPLACED])


def test_an_event_in_another_requests_record_is_misplaced() -> None:
    judgement = judge([record([impression(TOKENS[0]), impression(TOKENS[1])], token=TOKENS[0])])
    assert [(letter.event, letter.reason) for letter in judgement.dead_letters] == [(1, Reason.MISPLACED)]
    assert judgement.tallies == [Tally(0, folded=3, dead_lettered=3)]


@pytest.mark.parametrize(
    ("append_ms", "reason"),
    [
        (ISSUED_MS - CLOCK_SKEW_MS - 1, Reason.TOO_EARLY),
        (ISSUED_MS - CLOCK_SKEW_MS, None),
        (ISSUED_MS + LIFE_S * 1000, None),
        (ISSUED_MS + LIFE_S * 1000 + 1, Reason.EXPIRED),
    ],
)
def test_the_append_time_decides_not_the_clock(append_ms: int, reason: Reason | None) -> None:
    judgement = judge([record(impression(), append_ms=append_ms)])
    assert [letter.reason for letter in judgement.dead_letters] == ([reason] if reason else [])
    assert judgement.tallies == [Tally(0, dead_lettered=3) if reason else Tally(0, folded=3)]


def test_a_late_event_is_kept_as_such_and_implies_nothing() -> None:
    filler = [record(impression(), offset, ISSUED_MS - CLOCK_SKEW_MS) for offset in range(2)]
    late = [record([reward(), impression(items=[ITEMS[1]])], 2), record(impression(), 3)]
    judgement = judge([*filler, *late], kept=2)
    assert credited(judgement) == [(0, 0b111, None)]
    assert [(letter.offset, letter.event, letter.reason) for letter in judgement.dead_letters] == [
        (2, 0, Reason.LATE),
        (2, 1, Reason.LATE),
        (3, 0, Reason.LATE),
    ]
    assert judgement.tallies[2:] == [Tally(2, late=2), Tally(3, late=3)]


def test_an_event_that_cannot_be_folded_is_nobodys_first_copy() -> None:
    early = record(reward(), 0, ISSUED_MS - CLOCK_SKEW_MS - 1)
    assert credited(judge([early, record(reward(), 1)])) == [(1, 0b001, CLICK), (1, 0b001, None)]


def test_of_a_partly_malformed_list_the_rest_counts() -> None:
    events = [reward(), {"type": "like"}, 5, reward(value=-1), reward(attribution_token="x"), impression()]
    judgement = judge([record(events)])
    assert credited(judgement) == [(0, 0b001, CLICK), (0, 0b001, None), (0, 0b110, None)]
    assert [(letter.event, letter.reason) for letter in judgement.dead_letters] == [
        (1, Reason.NOT_AN_EVENT),
        (2, Reason.NOT_AN_EVENT),
        (3, Reason.NOT_AN_EVENT),
        (4, Reason.FORGED),
    ]
    assert judgement.tallies == [Tally(0, folded=3, duplicates=1, dead_lettered=4, implied=1)]


def test_a_list_is_a_list_even_after_spaces() -> None:
    value = b" \n" + orjson.dumps([impression(items=[ITEMS[0]]), reward()])
    assert credited(judge([record(value)])) == [(0, 0b001, None), (0, 0b001, CLICK)]


def test_a_bundle_that_is_not_there_is_not_the_events_fault() -> None:
    def manifest(version: str) -> Manifest:
        raise BundleMissing(version)

    with pytest.raises(BundleMissing):
        a_judge(manifest=manifest).judge(HERE, log(impression()), Window(10))


def test_retired_keys_verify_beside_the_one_that_signs() -> None:
    events = [impression(attribution_token=encode(a_token(), key_id, KEYS[key_id])) for key_id in KEYS]
    assert [(tally.folded, tally.duplicates) for tally in judge(log(*events)).tallies] == [(3, 0), (0, 3)]


@st.composite
def events(draw: st.DrawFn, token: Any) -> tuple[dict[str, Any] | int, int]:
    """An event of any sort, and for how many items it stands."""
    kind = draw(st.integers(0, 9))
    items = draw(st.lists(st.sampled_from([*ITEMS, "stranger"] if kind == 0 else ITEMS), min_size=1, max_size=4))
    if kind <= 3:
        return impression(token, items=items), len(set(items))
    if kind == 4:
        return impression(token), len(ITEMS)
    if kind <= 7:
        return reward(token, item_id=items[0], name=draw(st.sampled_from(["click", "watch", "like"]))), 1
    if kind == 8:
        return reward(token, value=draw(st.sampled_from([-1, 0, 2]))), 1
    return 5, 1


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Record], list[int]]:
    """Records in offset order, and for how many (event, item) pairs each stands."""
    records, sizes, now = [], [], ISSUED_MS - CLOCK_SKEW_MS - 1
    for offset in range(draw(st.integers(1, 12))):
        now += draw(st.sampled_from([0, 1, 1, 30_000, LIFE_S * 400]))
        token = draw(st.sampled_from(TOKENS))
        said = draw(st.lists(events(token), min_size=1, max_size=4))
        values = [event for event, _ in said]
        records.append(record(values if len(values) > 1 else values[0], offset, now, token))
        sizes.append(sum(size for _, size in said))
    return records, sizes


@given(histories(), st.integers(1, 8))
def test_every_event_and_item_is_accounted_for_once(history: tuple[list[Record], list[int]], kept: int) -> None:
    records, sizes = history
    judgement = judge(records, kept)
    assert [tally.offset for tally in judgement.tallies] == [record.offset for record in records]
    counted = [tally.folded + tally.duplicates + tally.late + tally.dead_lettered for tally in judgement.tallies]
    assert counted == sizes
    for tally in judgement.tallies:
        bits = [credit.positions.bit_count() for credit in judgement.credits if credit.offset == tally.offset]
        assert sum(bits) == tally.folded + tally.implied
    of_records = sum(tally.late > 0 or tally.dead_lettered > 0 for tally in judgement.tallies)
    assert len({letter.offset for letter in judgement.dead_letters}) == of_records


@given(histories(), st.integers(1, 8))
def test_an_item_is_shown_once_and_answered_once_by_name(history: tuple[list[Record], list[int]], kept: int) -> None:
    judgement = judge(history[0], kept)
    counted = [
        (credit.token.request_id, credit.reward, position)
        for credit in judgement.credits
        for position in range(len(ITEMS))
        if credit.positions >> position & 1
    ]
    assert len(set(counted)) == len(counted)
    shown = {(request, position) for request, units, position in counted if units is None}
    assert {(request, position) for request, units, position in counted if units is not None} <= shown


@given(histories(), st.integers(1, 8), st.data())
def test_batches_and_new_starts_do_not_change_the_judgement(
    history: tuple[list[Record], list[int]], kept: int, data: st.DataObject
) -> None:
    records, _ = history
    whole = judge(records, kept)
    start = data.draw(st.integers(0, len(records)))
    window = Window(kept)
    judge_anew = a_judge()
    judge_anew.judge(HERE, records[max(0, start - kept) : start], window)
    parts = [judge_anew.judge(HERE, [one], window) for one in records[start:]]
    assert [tally for part in parts for tally in part.tallies] == whole.tallies[start:]
    assert [credit[:2] + credit[3:] for part in parts for credit in part.credits] == [
        credit[:2] + credit[3:] for credit in whole.credits if credit.offset >= start
    ]
    assert [letter for part in parts for letter in part.dead_letters] == [
        letter for letter in whole.dead_letters if letter.offset >= start
    ]
