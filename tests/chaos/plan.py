"""The plan: what befalls the processes and when, drawn from the seed alone."""

import random
from collections.abc import Mapping
from typing import NamedTuple


class Fault(NamedTuple):
    """At `at_s` after the start, `kind` happens to so many at once."""

    at_s: float
    kind: str
    many: int


def draw(seed: int, seconds: float, wanted: Mapping[str, tuple[int, int]]) -> list[Fault]:
    """Spread rounds of faults over the time. `wanted` is kind → (rounds, how many at once in each)."""
    chance = random.Random(seed)
    rounds = [(kind, count) for kind, (times, count) in wanted.items() for _ in range(times)]
    chance.shuffle(rounds)
    # The first records come first, and what is killed last shall still have something to catch up with.
    span = 0.92 * seconds / len(rounds)
    return [
        Fault(0.04 * seconds + span * (number + chance.uniform(0.1, 0.9)), kind, count)
        for number, (kind, count) in enumerate(rounds)
    ]
