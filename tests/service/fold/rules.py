"""The rules of the state machine, counted."""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, cast

from hypothesis.stateful import rule

if TYPE_CHECKING:
    from tests.service.fold.machine import FoldMachine

Rule = Callable[..., None]


def counted(**choices: Any) -> Callable[[Rule], Rule]:
    """A rule that notes in `ran` how often it was taken."""

    def decorate(function: Rule) -> Rule:
        @wraps(function)
        def taken(self: "FoldMachine", **chosen: Any) -> None:
            self.ran[function.__name__] += 1
            function(self, **chosen)

        return cast(Rule, rule(**choices)(taken))  # type: ignore[no-untyped-call]

    return decorate
