"""A window that was told another's memory judges as that one does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.verification.memory import EMPTY, RememberingWindow

MOST_MS = 400_000
SAID = st.lists(st.tuples(st.sampled_from([b"a", b"bb", b"ccc" * 8]), st.sampled_from([1, 2, 3, 1 << 199])), max_size=3)
RECORDS = st.lists(st.tuples(st.integers(0, 90_000), SAID), max_size=25)


def tell(
    window: RememberingWindow, first: int, append_ms: int, records: list[tuple[int, list[tuple[bytes, int]]]]
) -> list[object]:
    """What a window answers to records from an offset on."""
    answers: list[object] = []
    for offset, (later_ms, said) in enumerate(records, first):
        append_ms += later_ms
        window.enter(offset, append_ms)
        answers.append([window.add(key, positions) for key, positions in said])
        answers.append([window.is_late(issued_ms) for issued_ms in range(0, MOST_MS, 10_000)])
    return answers


@given(before=RECORDS, after=RECORDS, records=st.integers(1, 8), first=st.integers(0, 1000))
def test_it_goes_on_as_if_it_had_never_been_put_away(
    before: list[tuple[int, list[tuple[bytes, int]]]],
    after: list[tuple[int, list[tuple[bytes, int]]]],
    records: int,
    first: int,
) -> None:
    window = RememberingWindow(records)
    tell(window, first, 0, before)
    memory = window.memory()
    recalled = RememberingWindow.recall(memory, records)
    assert recalled.memory().keys == memory.keys
    then, now_ms = first + len(before), sum(later for later, _ in before)
    assert tell(recalled, then, now_ms, after) == tell(window, then, now_ms, after)


def test_only_the_last_records_are_kept() -> None:
    window = RememberingWindow(3)
    tell(window, 0, 0, [(1, [(b"key", 1)])] * 10)
    assert window.memory().offsets.tolist() == [6, 7, 8, 9]
    assert window.memory().said.tolist() == [6, 7, 8, 9]
    assert RememberingWindow(3).memory().keys == b""
    assert RememberingWindow.recall(EMPTY, 3).add(b"key", 1) == 1


def test_a_memory_that_contradicts_itself_is_not_believed() -> None:
    window = RememberingWindow(3)
    tell(window, 0, 0, [(1, [(b"key", 1)])])
    torn = window.memory()._replace(mask_bytes=EMPTY.mask_bytes)
    with pytest.raises(ValueError, match="shorter"):
        RememberingWindow.recall(torn, 3)
