"""The experiment table at work: which arm answers whom."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from bandit.policies import POLICIES
from bandit.policies.base import Policy
from service.settings import Arm


class UnknownArm(ValueError):  # noqa: N818 - names what happened
    """A request names an arm that the table does not have."""


class Experiment:
    """A user's hash chooses the arm, the same one as long as the table stands."""

    def __init__(self, arms: Sequence[Arm]) -> None:
        self.arms = tuple(arms)
        self._by_name = {arm.name: arm for arm in arms}
        # An arm without a share is there only to be named.
        shared = [arm for arm in arms if arm.share > 0]
        total = sum(arm.share for arm in shared)
        self._shared = shared
        self._bounds = [int(bound / total * 2**64) for bound in accumulate(arm.share for arm in shared)][:-1]

    @property
    def namespaces(self) -> tuple[str, ...]:
        """All namespaces that learn."""
        return tuple(dict.fromkeys(arm.namespace for arm in self.arms))

    def named(self, name: str) -> Arm:
        """The arm that a request asks for. Raises UnknownArm."""
        if name not in self._by_name:
            raise UnknownArm(f"no arm {name!r}; the experiment table has {', '.join(self._by_name)}")
        return self._by_name[name]

    def choose(self, pseudonym: bytes) -> Arm:
        """The arm of whoever has these 16 bytes; the last eight decide, for the first eight choose the shard."""
        return self._shared[bisect_right(self._bounds, int.from_bytes(pseudonym[8:], "little"))]


def policy_of(arm: Arm) -> Policy:
    """An arm's policy."""
    return POLICIES[arm.policy]
