"""The plan: what befalls the processes and when, drawn from the seed alone."""

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

Round = Mapping[str, int]  # kind of fault → how many at once; in this order


class Due(NamedTuple):
    """A round that is due so many seconds after the start."""

    at_s: float
    faults: Round


def draw(seed: int, seconds: float, rounds: Sequence[tuple[int, Round]]) -> list[Due]:
    """Spread rounds, each so many times, over the time, in any order."""
    chance = random.Random(seed)
    drawn = [faults for times, faults in rounds for _ in range(times)]
    chance.shuffle(drawn)
    # The first records come first, and what is killed last shall still have something to catch up with.
    span = 0.9 * seconds / len(drawn)
    return [
        Due(0.04 * seconds + span * (number + chance.uniform(0.2, 0.8)), faults) for number, faults in enumerate(drawn)
    ]
