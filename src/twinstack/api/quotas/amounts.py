"""Amounts of named resources (core/v1 ResourceList) and their arithmetic. Pure.

An amount is a quantity as text: what is added keeps the form (`64Mi`, `1500m`) of what it is added to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from twinstack.api.scalars import canonical_quantity, quantity, quantity_sum

Amounts = Mapping[str, str]


def added(first: Amounts, second: Amounts) -> dict[str, str]:
    return dict(first) | {name: quantity_sum(first.get(name, "0"), text) for name, text in second.items()}


def subtracted(first: Amounts, second: Amounts) -> dict[str, str]:
    """What is only in the second one becomes negative."""
    return dict(first) | {name: quantity_sum(first.get(name, "0"), text, -1) for name, text in second.items()}


def masked(amounts: Amounts, names: Iterable[str]) -> dict[str, str]:
    """Those of the given names."""
    wanted = set(names)
    return {name: text for name, text in amounts.items() if name in wanted}


def nonzero(amounts: Amounts) -> dict[str, str]:
    return {name: text for name, text in amounts.items() if quantity(text)}


def negative(amounts: Amounts) -> list[str]:
    return sorted(name for name, text in amounts.items() if quantity(text) < 0)


def greater(amounts: Amounts, limits: Amounts) -> list[str]:
    """The names of which there is more than the limit; what has no limit is not among them."""
    return sorted(name for name, text in amounts.items() if name in limits and quantity(text) > quantity(limits[name]))


def equal(first: Amounts, second: Amounts) -> bool:
    """Whether they are the same numbers of the same names."""
    return first.keys() == second.keys() and all(
        quantity(text) == quantity(second[name]) for name, text in first.items()
    )


def text(amounts: Amounts) -> str:
    """As refusals show them: `cpu=1500m,pods=2`."""
    return ",".join(f"{name}={canonical_quantity(amounts[name])}" for name in sorted(amounts))
