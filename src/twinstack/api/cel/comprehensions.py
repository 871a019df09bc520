"""Macros that walk through lists and maps: each is given the turns, the names of its variables and its bodies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twinstack.api.cel.scope import Evaluate, Scope, decided, truth
from twinstack.api.cel.values import EvaluationError, compare

_Turns = Iterable[None]


def _run_all(scope: Scope, turns: _Turns, names: list[str], bodies: list[Evaluate]) -> bool:
    return decided(scope, (bodies[0] for _ in turns), decisive=False)


def _run_exists(scope: Scope, turns: _Turns, names: list[str], bodies: list[Evaluate]) -> bool:
    return decided(scope, (bodies[0] for _ in turns), decisive=True)


def _run_one(scope: Scope, turns: _Turns, names: list[str], bodies: list[Evaluate]) -> bool:
    return sum(truth(bodies[0](scope)) for _ in turns) == 1


def _run_filter(scope: Scope, turns: _Turns, names: list[str], bodies: list[Evaluate]) -> list[Any]:
    return [scope.names[names[0]] for _ in turns if truth(bodies[0](scope))]


def _run_map(scope: Scope, turns: _Turns, names: list[str], bodies: list[Evaluate]) -> list[Any]:
    *condition, body = bodies
    return [body(scope) for _ in turns if not condition or truth(condition[0](scope))]


def _run_transform_map(scope: Scope, turns: _Turns, names: list[str], bodies: list[Evaluate]) -> dict[Any, Any]:
    *condition, body = bodies
    out: dict[Any, Any] = {}
    for _ in turns:
        if not condition or truth(condition[0](scope)):
            out[scope.names[names[0]]] = body(scope)
    return out


def _run_transform_entry(scope: Scope, turns: _Turns, names: list[str], bodies: list[Evaluate]) -> dict[Any, Any]:
    *condition, body = bodies
    out: dict[Any, Any] = {}
    for _ in turns:
        if not condition or truth(condition[0](scope)):
            for key, value in body(scope).items():
                if key in out:
                    raise EvaluationError(f"insert failed: key {key} already exists")
                out[key] = value
    return out


def _run_sort_by(scope: Scope, turns: _Turns, names: list[str], bodies: list[Evaluate]) -> list[Any]:
    pairs = [(bodies[0](scope), scope.names[names[0]]) for _ in turns]
    for key, _ in pairs:
        compare(key, pairs[0][0])
    return [item for _, item in sorted(pairs, key=lambda pair: pair[0])]


class Comprehension:
    def __init__(self, run: Callable[..., Any], most_bodies: int = 1, *, two_only: bool = False) -> None:
        self.run = run
        self.most_bodies = most_bodies
        self.two_only = two_only


COMPREHENSIONS = {
    "all": Comprehension(_run_all),
    "exists": Comprehension(_run_exists),
    "exists_one": Comprehension(_run_one),
    "existsOne": Comprehension(_run_one),
    "filter": Comprehension(_run_filter),
    "map": Comprehension(_run_map, 2),
    "sortBy": Comprehension(_run_sort_by),
    "transformList": Comprehension(_run_map, 2, two_only=True),
    "transformMap": Comprehension(_run_transform_map, 2, two_only=True),
    "transformMapEntry": Comprehension(_run_transform_entry, 2, two_only=True),
}
