"""CEL trees compiled into functions, and their evaluation with a bound on its cost.

Every operation costs one, what walks through lists and texts more, by their length. Macros (`all`, `map` …) are
compiled here; functions of values are in `functions`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twinstack.api.cel.access import field_of, has_field, item_at
from twinstack.api.cel.comprehensions import COMPREHENSIONS
from twinstack.api.cel.functions import FUNCTIONS, METHODS, NAMESPACES, TYPES
from twinstack.api.cel.scope import CALL_COST, CostExceeded, Evaluate, Scope, decided, truth
from twinstack.api.cel.syntax import CELSyntaxError, Node, failure, parse
from twinstack.api.cel.values import NONE, EvaluationError, NoSuchOverload, Optional


class Program:
    """One expression, ready to be evaluated. `names` are the variables that it speaks of."""

    def __init__(self, text: str, declared: Iterable[str]) -> None:
        """Raises CELSyntaxError for what cannot be read, and for names that are not `declared`."""
        self.text = text
        self.tree = parse(text)
        compiler = _Compiler(text, frozenset(declared))
        self._evaluate = compiler.compile(self.tree, frozenset())
        self.names = frozenset(compiler.used)

    def evaluate(self, names: Mapping[str, Any], limit: int = CALL_COST) -> tuple[Any, int]:
        """The value, and what it cost. Raises EvaluationError."""
        scope = Scope(dict(names), limit)
        try:
            value = self._evaluate(scope)
        except RecursionError:
            raise CostExceeded from None
        return value, limit - scope.left


class _Compiler:
    def __init__(self, text: str, declared: frozenset[str]) -> None:
        self._text = text
        self._declared = declared
        self.used: set[str] = set()

    def _error(self, node: Node, problem: str) -> CELSyntaxError:
        return CELSyntaxError(failure(self._text, node.position, problem))

    def compile(self, node: Node, bound: frozenset[str]) -> Evaluate:
        made: Evaluate = getattr(self, f"_{node.kind.replace('-', '_')}")(node, bound)
        return made

    def _all(self, nodes: Iterable[Node], bound: frozenset[str]) -> list[Evaluate]:
        return [self.compile(node, bound) for node in nodes]

    # --- leaves and structure

    def _literal(self, node: Node, bound: frozenset[str]) -> Evaluate:
        value = node.value
        return lambda scope: value

    def _name(self, node: Node, bound: frozenset[str]) -> Evaluate:
        name = node.name
        if name not in bound and name not in self._declared:
            if name in TYPES:
                return lambda scope: TYPES[name]
            raise self._error(node, f"undeclared reference to '{name}' (in container '')")
        if name not in bound:
            self.used.add(name)

        def get(scope: Scope) -> Any:
            scope.spend(1)
            return scope.names[name]

        return get

    def _select(self, node: Node, bound: frozenset[str]) -> Evaluate:
        value, name = self.compile(node.args[0], bound), node.name

        def select(scope: Scope) -> Any:
            scope.spend(1)
            return field_of(value(scope), name)

        return select

    def _optional_select(self, node: Node, bound: frozenset[str]) -> Evaluate:
        value, name = self.compile(node.args[0], bound), node.name

        def select(scope: Scope) -> Any:
            scope.spend(1)
            found = value(scope)
            if isinstance(found, Optional):
                if not found.has:
                    return found
                found = found.value
            return Optional(field_of(found, name)) if has_field(found, name) else NONE

        return select

    def _index(self, node: Node, bound: frozenset[str]) -> Evaluate:
        value, key = self._all(node.args, bound)

        def index(scope: Scope) -> Any:
            scope.spend(1)
            return item_at(value(scope), key(scope))

        return index

    def _optional_index(self, node: Node, bound: frozenset[str]) -> Evaluate:
        value, key = self._all(node.args, bound)

        def index(scope: Scope) -> Any:
            scope.spend(1)
            found = value(scope)
            if isinstance(found, Optional):
                if not found.has:
                    return found
                found = found.value
            try:
                return Optional(item_at(found, key(scope)))
            except NoSuchOverload:
                raise
            except EvaluationError:
                return NONE

        return index

    def _list(self, node: Node, bound: frozenset[str]) -> Evaluate:
        items, optional = self._all(node.args, bound), node.value

        def make(scope: Scope) -> Any:
            scope.spend(1 + len(items))
            out: list[Any] = []
            for i, item in enumerate(items):
                value = item(scope)
                if i not in optional:
                    out.append(value)
                elif value.has:
                    out.append(value.value)
            return out

        return make

    def _map(self, node: Node, bound: frozenset[str]) -> Evaluate:
        items, optional = self._all(node.args, bound), node.value

        def make(scope: Scope) -> Any:
            scope.spend(1 + len(items))
            out: dict[Any, Any] = {}
            for i in range(0, len(items), 2):
                key, value = items[i](scope), items[i + 1](scope)
                if i in optional:
                    if not value.has:
                        continue
                    value = value.value
                if key in out:
                    raise EvaluationError(f"insert failed: key {key} already exists")
                out[key] = value
            return out

        return make

    # --- logic

    def _if(self, node: Node, bound: frozenset[str]) -> Evaluate:
        condition, yes, no = self._all(node.args, bound)
        return lambda scope: yes(scope) if truth(condition(scope)) else no(scope)

    def _and(self, node: Node, bound: frozenset[str]) -> Evaluate:
        return _junction(self._all(node.args, bound), decisive=False)

    def _or(self, node: Node, bound: frozenset[str]) -> Evaluate:
        return _junction(self._all(node.args, bound), decisive=True)

    # --- calls

    def _call(self, node: Node, bound: frozenset[str]) -> Evaluate:
        macro = self._macro(node, bound)
        if macro is not None:
            return macro
        if node.method:
            owner = node.args[0]
            if owner.kind == "name" and (owner.name, node.name) in NAMESPACES and owner.name not in bound:
                return _called(NAMESPACES[owner.name, node.name], self._all(node.args[1:], bound))
        table = METHODS if node.method else FUNCTIONS
        function = table.get(node.name)
        if function is None:
            raise self._error(node, f"undeclared reference to '{node.name}' (in container '')")
        return _called(function, self._all(node.args, bound))

    def _macro(self, node: Node, bound: frozenset[str]) -> Evaluate | None:
        name, args = node.name, node.args
        if name == "has" and not node.method:
            if len(args) != 1 or args[0].kind != "select":
                raise self._error(node, "invalid argument to has() macro")
            value, wanted = self.compile(args[0].args[0], bound), args[0].name

            def has(scope: Scope) -> bool:
                scope.spend(1)
                return has_field(value(scope), wanted)

            return has
        if not node.method:
            return None
        if name == "bind" and args[0].kind == "name" and args[0].name == "cel" and len(args) == 4:
            return self._bind(args, bound)
        if name in ("optMap", "optFlatMap") and len(args) == 3:
            return self._optional_map(node, bound)
        if name in COMPREHENSIONS and len(args) in (3, 4, 5):
            return self._comprehension(node, bound)
        return None

    def _variable(self, node: Node) -> str:
        if node.kind != "name":
            raise self._error(node, "argument must be a simple name")
        return node.name

    def _bind(self, args: tuple[Node, ...], bound: frozenset[str]) -> Evaluate:
        name = self._variable(args[1])
        value, body = self.compile(args[2], bound), self.compile(args[3], bound | {name})
        return lambda scope: _within(scope, {name: value(scope)}, body)

    def _optional_map(self, node: Node, bound: frozenset[str]) -> Evaluate:
        name = self._variable(node.args[1])
        value, body = self.compile(node.args[0], bound), self.compile(node.args[2], bound | {name})
        flat = node.name == "optFlatMap"

        def evaluate(scope: Scope) -> Any:
            found = value(scope)
            if not isinstance(found, Optional):
                raise NoSuchOverload
            if not found.has:
                return NONE
            result = _within(scope, {name: found.value}, body)
            return result if flat else Optional(result)

        return evaluate

    def _comprehension(self, node: Node, bound: frozenset[str]) -> Evaluate | None:
        """`range.all(x, body)` and its kind: one or two variables, then one or two expressions."""
        kind = COMPREHENSIONS[node.name]
        rest = list(node.args[1:])
        two = kind.two_only or (len(rest) == 3 and rest[1].kind == "name" and node.name not in ("map",))
        count = 2 if two else 1
        names = [self._variable(each) for each in rest[:count]]
        inner = bound | set(names)
        bodies = self._all(rest[count:], inner)
        if not 1 <= len(bodies) <= kind.most_bodies:
            return None
        value, run = self.compile(node.args[0], bound), kind.run

        def evaluate(scope: Scope) -> Any:
            found = value(scope)
            entries = _entries(found, two=two)
            before = {name: scope.names[name] for name in names if name in scope.names}

            def turns() -> Iterable[None]:
                for entry in entries:
                    scope.spend(2)
                    scope.names.update(zip(names, entry, strict=True))
                    yield

            try:
                return run(scope, turns(), names, bodies)
            finally:
                for name in names:
                    scope.names.pop(name, None)
                scope.names.update(before)

        return evaluate


def _entries(value: Any, *, two: bool) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return list(value.items()) if two else [(key,) for key in value]
    if isinstance(value, list):
        return list(enumerate(value)) if two else [(item,) for item in value]
    raise NoSuchOverload


def _within(scope: Scope, names: dict[str, Any], body: Evaluate) -> Any:
    before = scope.names
    scope.names = before | names
    try:
        return body(scope)
    finally:
        scope.names = before


def _junction(parts: list[Evaluate], *, decisive: bool) -> Evaluate:
    """`&&` and `||`."""

    def evaluate(scope: Scope) -> bool:
        return decided(scope, parts, decisive=decisive)

    return evaluate


def _called(function: Callable[..., Any], args: list[Evaluate]) -> Evaluate:
    def call(scope: Scope) -> Any:
        values = [arg(scope) for arg in args]
        scope.spend(1 + sum(_size(value) for value in values))
        try:
            return function(*values)
        except (TypeError, AttributeError):
            raise NoSuchOverload from None  # no function of these arguments

    return call


def _size(value: Any) -> int:
    """What it costs to walk through an argument: a tenth of its length (cel-go, StringTraversalCostFactor)."""
    return len(value) // 10 if isinstance(value, str | bytes | list | dict) else 0
