"""What an evaluation has at hand: the names that are bound, and what it may still cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twinstack.api.cel.values import EvaluationError, NoSuchOverload

CALL_COST = 1_000_000  # of one expression (apiextensions, PerCallLimit)


class CostExceeded(EvaluationError):
    """The bound is reached."""

    def __init__(self) -> None:
        super().__init__("operation cancelled: actual cost limit exceeded")


class Scope:
    """The names that are bound, and what may still be spent."""

    __slots__ = ("left", "names")

    def __init__(self, names: dict[str, Any], left: int) -> None:
        self.names = names
        self.left = left

    def spend(self, cost: int) -> None:
        self.left -= cost
        if self.left < 0:
            raise CostExceeded


Evaluate = Callable[[Scope], Any]


def truth(value: Any) -> bool:
    if type(value) is not bool:
        raise NoSuchOverload
    return value


def decided(scope: Scope, parts: Iterable[Evaluate], *, decisive: bool) -> bool:
    """`&&` and `all` (False is decisive), `||` and `exists` (True): a part that decides wins over parts that fail,
    whatever their order."""
    error: EvaluationError | None = None
    for part in parts:
        try:
            if truth(part(scope)) is decisive:
                return decisive
        except CostExceeded:
            raise
        except EvaluationError as failed:
            error = error or failed
    if error is not None:
        raise error
    return not decisive
