"""Label and field selectors (meta/v1 ListOptions): their grammar, in the words of the API server, and their match."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from twinstack.api import meta
from twinstack.api.errors import StatusError, bad_request, go_value, invalid
from twinstack.api.resources import Resource
from twinstack.api.validation import label_value, qualified_name

JSON = dict[str, Any]

# Labels --------------------------------------------------------------------------------------------------------


class Operator(enum.StrEnum):
    """How a label is asked for; the values are those of meta/v1 LabelSelectorRequirement where it has them."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GREATER = "Gt"
    LESS = "Lt"


class Requirement(NamedTuple):
    """One condition on one label."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return self.test()(labels)

    def test(self) -> Callable[[Mapping[str, str]], bool]:
        """Whether labels meet it, as a function."""
        key, values = self.key, self.values
        match self.operator:
            case Operator.IN if len(values) == 1:
                (only,) = values
                return lambda labels: labels.get(key) == only
            case Operator.IN:
                return lambda labels: labels.get(key) in values
            case Operator.NOT_IN:
                return lambda labels: labels.get(key) not in values
            case Operator.EXISTS:
                return lambda labels: key in labels
            case Operator.DOES_NOT_EXIST:
                return lambda labels: key not in labels
        bound = _integer(next(iter(values), ""))
        greater = self.operator is Operator.GREATER

        def compare(labels: Mapping[str, str]) -> bool:
            number = _integer(labels.get(key, ""))
            return number is not None and bound is not None and (number > bound if greater else number < bound)

        return compare


class LabelSelector:
    """Requirements that must all hold. Without any it selects everything, unless made with `nothing`."""

    __slots__ = ("_nothing", "matches", "requirements")

    matches: Callable[[Mapping[str, str]], bool]

    def __init__(self, requirements: Iterable[Requirement] = (), *, nothing: bool = False) -> None:
        self.requirements = tuple(requirements)
        self._nothing = nothing
        self.matches = _never if nothing else _all_of([requirement.test() for requirement in self.requirements])

    @classmethod
    def parse(cls, text: str) -> LabelSelector:
        """Read a `labelSelector` parameter. Raises StatusError 400."""
        try:
            return cls(_Parser(text).selector())
        except _SelectorError as error:
            raise bad_request(str(error)) from error

    @classmethod
    def from_labels(cls, labels: Mapping[str, str]) -> LabelSelector:
        """What a plain map selects: Service.spec.selector, nodeSelector. An empty one selects everything."""
        return cls(Requirement(key, Operator.IN, frozenset({value})) for key, value in labels.items())

    @classmethod
    def from_object(cls, selector: meta.LabelSelector | None) -> LabelSelector:
        """Read a meta/v1 LabelSelector. None selects nothing. Raises ValueError for an unknown operator."""
        if selector is None:
            return cls(nothing=True)
        requirements = list(cls.from_labels(selector.match_labels).requirements)
        for wanted in selector.match_expressions:
            operator = Operator(wanted.operator)
            requirements.append(Requirement(wanted.key, operator, frozenset(wanted.values)))
        return cls(requirements)

    def narrowed(self, more: Iterable[Requirement]) -> LabelSelector:
        """What it selects, if `more` holds too."""
        return LabelSelector((*self.requirements, *more), nothing=self._nothing)


def _never(_labels: Mapping[str, str]) -> bool:
    return False


def _all_of(tests: list[Callable[[Mapping[str, str]], bool]]) -> Callable[[Mapping[str, str]], bool]:
    """One test without another call around it, as most selectors have one: lists ask thousands of objects."""
    if len(tests) == 1:
        return tests[0]

    def matches(labels: Mapping[str, str]) -> bool:
        for test in tests:  # noqa: SIM110 - a generator would double the time
            if not test(labels):
                return False
        return True

    return matches


class _SelectorError(ValueError):
    pass


_token = re.compile(r"[ \t\r\n]*(==|!=|[=!(),<>]|[^=!(),<> \t\r\n]+|\Z)")
_SYMBOLS = {"=", "==", "!=", "!", "(", ")", ",", "<", ">", ""}
_EQUALITY = {"=": Operator.IN, "==": Operator.IN, "!=": Operator.NOT_IN, ">": Operator.GREATER, "<": Operator.LESS}
_SETS = {"in": Operator.IN, "notin": Operator.NOT_IN}


def _integer(text: str) -> int | None:
    """A 64-bit integer as Go's ParseInt reads it."""
    if not re.fullmatch(r"[-+]?[0-9]{1,100}", text, re.ASCII):
        return None
    value = int(text)
    return value if -(1 << 63) <= value < 1 << 63 else None


class _Parser:
    """Recursive descent over the tokens of a label selector."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        position = 0
        while True:
            match = _token.match(text, position)
            assert match is not None  # every text begins with a token
            self._tokens.append(match[1])
            position = match.end()
            if not match[1]:
                break
        self._position = 0

    def _peek(self) -> str:
        return self._tokens[min(self._position, len(self._tokens) - 1)]

    def _next(self) -> str:
        token = self._peek()
        self._position += 1
        return token

    def selector(self) -> list[Requirement]:
        requirements: list[Requirement] = []
        while True:
            token = self._peek()
            if not token:
                return requirements
            if token in _SYMBOLS and token != "!":
                raise _SelectorError(f"found '{token}', expected: !, identifier, or 'end of string'")
            try:
                requirements.append(self._requirement())
            except _SelectorError as error:
                raise _SelectorError(f"unable to parse requirement: {error}") from None
            end = self._next()
            if not end:
                return requirements
            if end != ",":
                raise _SelectorError(f"found '{end}', expected: ',' or 'end of string'")
            following = self._peek()
            if following in _SYMBOLS and following != "!":
                raise _SelectorError(f"found '{following}', expected: identifier after ','")

    def _requirement(self) -> Requirement:
        key = self._next()
        negated = key == "!"
        if negated:
            key = self._next()
        if key in _SYMBOLS:
            raise _SelectorError(f"found '{key}', expected: identifier")
        problems = qualified_name(key)
        if problems:
            raise _SelectorError(str(invalid("<nil>", key, "; ".join(problems))))
        if negated:
            return Requirement(key, Operator.DOES_NOT_EXIST)
        if self._peek() in ("", ","):
            return Requirement(key, Operator.EXISTS)
        sign = self._next()
        if sign in _SETS:
            return _checked(key, _SETS[sign], self._values())
        if sign in _EQUALITY:
            return _checked(key, _EQUALITY[sign], [self._value()])
        raise _SelectorError(f"found '{sign}', expected: in, notin, =, ==, !=, gt, lt")

    def _value(self) -> str:
        if self._peek() in ("", ","):
            return ""
        token = self._next()
        if token in _SYMBOLS:
            raise _SelectorError(f"found '{token}', expected: identifier")
        return token

    def _values(self) -> list[str]:
        token = self._next()
        if token != "(":
            raise _SelectorError(f"found '{token}' expected: '('")
        token = self._peek()
        if token == ")":
            self._next()
            return []
        if token in _SYMBOLS and token != ",":
            raise _SelectorError(f"found '{token}', expected: ',', ')' or identifier")
        values: list[str] = []
        while True:
            token = self._next()
            if token == ",":
                self._empty_value(values)
            elif token in _SYMBOLS:
                raise _SelectorError(f"found '{token}', expected: ',', or identifier")
            else:
                values.append(token)
                if self._peek() not in (",", ")"):
                    raise _SelectorError(f"found '{self._peek()}', expected: ',' or ')'")
            if self._peek() == ")":
                self._next()
                return values

    def _empty_value(self, values: list[str]) -> None:
        """A comma with nothing before or behind it means the empty value."""
        if not values:
            values.append("")
        if self._peek() == ")":
            values.append("")
        elif self._peek() == ",":
            self._next()
            values.append("")


def _checked(key: str, operator: Operator, values: list[str]) -> Requirement:
    problems: list[str] = []
    if operator in (Operator.GREATER, Operator.LESS) and _integer(values[0]) is None:
        detail = "for 'Gt', 'Lt' operators, the value must be an integer"
        problems.append(str(invalid("values[0]", values[0], detail)))
    for i, value in enumerate(sorted(set(values))):
        messages = label_value(value)
        if messages:
            problems.append(str(invalid(f"values[{i}][{key}]", value, "; ".join(messages))))
    if problems:
        raise _SelectorError(problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")
    return Requirement(key, operator, frozenset(values))


# Fields --------------------------------------------------------------------------------------------------------


class _FieldRequirement(NamedTuple):
    field: str
    value: str
    negated: bool


class FieldSelector:
    """Conditions on selectable fields that must all hold."""

    __slots__ = ("_requirements",)

    def __init__(self, requirements: Iterable[tuple[str, str, bool]] = ()) -> None:
        self._requirements = tuple(_FieldRequirement(*requirement) for requirement in requirements)

    @classmethod
    def parse(cls, text: str, resource: Resource) -> FieldSelector:
        """Read a `fieldSelector` parameter. Raises StatusError 400, also for fields the resource does not offer."""
        requirements = []
        for term in sorted(_split_terms(text)):
            if not term:
                continue
            field, operator, value = _split_term(term)
            if not operator:
                raise bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
            requirements.append((field, _unescape(value), operator == "!="))
        supported = _supported(resource)
        named = [(_ALIASES.get((resource.plural, field), field), value, no) for field, value, no in requirements]
        for field, _, _ in named:
            if field not in supported:
                raise _unsupported(field, resource)
        return cls(named)

    def exact(self, field: str) -> str | None:
        """The only value of `field` that can match, if the selector says so."""
        return next((r.value for r in self._requirements if r.field == field and not r.negated), None)

    def matches(self, fields: Mapping[str, str]) -> bool:
        """`fields` are those of `selectable_fields`."""
        return all((fields.get(field, "") == value) is not negated for field, value, negated in self._requirements)


def exact_fields(text: str) -> Mapping[str, str]:
    """What a `fieldSelector` parameter of any resource demands of fields by `=`; nothing if it cannot be read."""
    if not text:
        return _NO_FIELDS
    terms = [_split_term(term) for term in _split_terms(text)]
    if not all(operator for _, operator, _ in terms):
        return _NO_FIELDS
    return {field: _unescape(value) for field, operator, value in terms if operator != "!="}


_NO_FIELDS: Mapping[str, str] = {}
_ALIASES = {("pods", "spec.host"): "spec.nodeName"}


def _supported(resource: Resource) -> set[str]:
    """Cluster-scoped kinds with fields of their own do not offer a namespace."""
    common = {"metadata.name", "metadata.namespace"}
    if (resource.fields or resource.custom is not None) and not resource.namespaced:
        common = {"metadata.name"}
    return common | set(resource.fields)


def _unsupported(field: str, resource: Resource) -> StatusError:
    if resource.fields or resource.custom is not None:
        return bad_request(f"field label not supported: {field}")
    return bad_request(f'{go_value(field)} is not a known field selector: only "metadata.name", "metadata.namespace"')


def _split_terms(text: str) -> list[str]:
    """Split at commas that no backslash escapes."""
    return re.findall(r"(?:\\.|[^,\\]|\\\Z)+", text, re.DOTALL)


def _split_term(term: str) -> tuple[str, str, str]:
    """(field, operator, escaped value); no operator if there is none."""
    position = 0
    while position < len(term):
        if term[position] == "\\":
            position += 2
            continue
        for operator in ("!=", "==", "="):
            if term.startswith(operator, position):
                return term[:position], operator, term[position + len(operator) :]
        position += 1
    return "", "", ""


def _unescape(text: str) -> str:
    out: list[str] = []
    position = 0
    while position < len(text):
        char = text[position]
        if char == "\\":
            escaped = text[position + 1 : position + 2]
            if not escaped or escaped not in "\\,=":
                raise bad_request(f"invalid field selector: invalid escape sequence: \\{escaped}")
            out.append(escaped)
            position += 1
        elif char in ",=":
            raise bad_request(f"invalid field selector: unescaped character in value: {ord(char)}")
        else:
            out.append(char)
        position += 1
    return "".join(out)


def selectable_fields(resource: Resource, obj: JSON) -> dict[str, str]:
    """The values that field selectors of a resource are compared with; an absent field is empty."""
    metadata = obj.get("metadata") or {}
    fields = {"metadata.name": metadata.get("name") or "", "metadata.namespace": metadata.get("namespace") or ""}
    for path in resource.fields:
        special = _SPECIAL.get((resource.plural, path))
        fields[path] = special(obj) if special else _text_at(obj, path)
    return fields


def _text_at(obj: JSON, path: str) -> str:
    value: Any = obj
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if value is None:
        return ""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _bool_at(path: str) -> Any:
    return lambda obj: _text_at(obj, path) or "false"


def _pod_ip(obj: JSON) -> str:
    ips = (obj.get("status") or {}).get("podIPs") or []
    return str(ips[0].get("ip") or "") if ips else ""


def _event_source(obj: JSON) -> str:
    return _text_at(obj, "source.component") or _text_at(obj, "reportingComponent")


_SPECIAL: dict[tuple[str, str], Any] = {
    ("nodes", "spec.unschedulable"): _bool_at("spec.unschedulable"),
    ("pods", "spec.hostNetwork"): _bool_at("spec.hostNetwork"),
    ("pods", "status.podIP"): _pod_ip,
    ("pods", "status.podIPs"): lambda _obj: "",  # the API accepts the selector and never matches it
    ("events", "source"): _event_source,
    ("replicasets", "status.replicas"): lambda obj: _text_at(obj, "status.replicas") or "0",
}
