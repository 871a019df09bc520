"""CEL: what expressions come to, what is refused, and what it may cost."""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.api.cel.evaluation import Program
from twinstack.api.cel.scope import CostExceeded
from twinstack.api.cel.syntax import CELSyntaxError
from twinstack.api.cel.values import EvaluationError, KeyedList, UniqueList


def value_of(text: str, self: Any = None, old: Any = None) -> Any:
    return Program(text, ("self", "oldSelf")).evaluate({"self": self, "oldSelf": old})[0]


@pytest.mark.parametrize(
    "text",
    [
        "1 + 2 * 3 == 7 && (1 + 2) * 3 == 9 && 7 / 2 == 3 && -7 / 2 == -3 && -7 % 3 == -1 && 7.0 / 2.0 == 3.5",
        "1 == 1.0 && 1u == 1 && true != false && null == null && 'a' != 1 && [1, 2] == [1.0, 2] && {'a': 1} == {'a': 1}",
        "!(1 > 2) && 'a' < 'b' && 2 >= 2 && 1 in [1, 2] && 'k' in {'k': 0} && !(3 in [])",
        "true ? 1 == 1 : 1 / 0 == 1",
        "true || 1 / 0 == 1",
        "1 / 0 == 1 || true",
        "!(false && 1 / 0 == 1) && !(1 / 0 == 1 && false)",
        "[1, 2, 3].all(x, x > 0) && [1, 2].exists(x, x == 2) && [1, 2, 2].exists_one(x, x == 1)",
        "[1, 2, 3].filter(x, x > 1).map(x, x * 2) == [4, 6] && [1, 2].map(x, x > 1, x + 1) == [3]",
        "{'a': 1, 'b': 2}.all(k, k != 'c') && {'a': 1}.exists(k, v, k == 'a' && v == 1)",
        "[3, 4].all(i, v, v == i + 3) && [1, 2].transformList(i, v, i + v) == [1, 3]",
        "{'a': 1}.transformMap(k, v, v + 1) == {'a': 2} && {'a': 1}.transformMapEntry(k, v, {k + 'x': v}) == {'ax': 1}",
        "cel.bind(x, [1, 2], x.size() + x[0]) == 3",
        "size('añb') == 3 && 'hello'.contains('ell') && 'hello'.startsWith('he') && 'hello'.endsWith('lo')",
        "'a,b,c'.split(',') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c'] && ['a', 'b'].join('-') == 'a-b'",
        "' a '.trim() == 'a' && 'AbÉ'.lowerAscii() == 'abÉ' && 'aXbX'.replace('X', 'y', 1) == 'aybX'",
        "'hello'.charAt(1) == 'e' && 'hello'.substring(1, 3) == 'el' && 'hello'.indexOf('l') == 2",
        "'tacocat'.lastIndexOf('c') == 4 && 'abc'.reverse() == 'cba'",
        r"'a1b22'.findAll('[0-9]+') == ['1', '22'] && 'abc'.find('b.') == 'bc' && 'x9'.matches('^[a-z]\\d$')",
        "'%s has %d (%.2f) %x %b'.format(['a', 3, 1.5, 255, 5]) == 'a has 3 (1.50) ff 101'",
        "string(1) == '1' && int('7') == 7 && double('1.5') == 1.5 && string(2.0) == '2' && bool('true') && int(3.9) == 3",
        "type(1) == int && type('a') == string && type([]) == list && type(null) == null_type",
        "duration('1h30m') == duration('90m') && duration('36h').getHours() == 36 && duration('1.5s').getMilliseconds() == 500",
        "timestamp('2024-02-29T12:30:00Z') + duration('24h') == timestamp('2024-03-01T12:30:00Z')",
        "timestamp('2024-02-29T12:30:00+02:00').getHours() == 10 && timestamp('2024-01-01T00:00:00Z').getDayOfWeek() == 1",
        "quantity('1.5Gi').isGreaterThan(quantity('1500Mi')) && quantity('200m').add(quantity('0.8')) == quantity('1')",
        "quantity('50k').asInteger() == 50000 && isQuantity('1e3') && !isQuantity('1x') && quantity('1').compareTo(quantity('2')) == -1",
        "isIP('::1') && ip('10.0.0.1').family() == 4 && !isIP('10.0.0.1/8') && ip.isCanonical('fd00::1') && !ip.isCanonical('FD00::1')",
        "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('fd00::/8').containsIP('fd12::1') && cidr('10.0.0.0/8').containsCIDR('10.2.0.0/16')",
        "url('https://a.example:8443/p?q=1').getHostname() == 'a.example' && url('https://[::1]:80/').getPort() == '80' && !isURL('a b')",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.0.0-rc.1').isLessThan(semver('1.0.0')) && !isSemver('v1')",
        "sets.contains([1, 2, 3], [2]) && sets.equivalent([1, 2], [2, 1]) && sets.intersects([1], [1, 5])",
        "[1, 2, 3].sum() == 6 && [2, 1].max() == 2 && [2, 1].min() == 1 && [1, 2].isSorted() && ![2, 1].isSorted()",
        "[[1], [2, 3]].flatten() == [1, 2, 3] && [1, 1, 2].distinct() == [1, 2] && [2, 1].sort() == [1, 2] && [1, 2, 3].slice(1, 3) == [2, 3]",
        "[3, 1, 2].sortBy(x, -x) == [3, 2, 1] && math.greatest(1, 5, 3) == 5 && math.least([2, 1]) == 1",
        "optional.of(1).hasValue() && !optional.none().hasValue() && {'a': 1}.?b.orValue(2) == 2 && [1][?4].orValue(0) == 0",
        "optional.of(2).optMap(x, x * 2).value() == 4 && {?'a': optional.none(), 'b': 1} == {'b': 1} && [?optional.of(1)] == [1]",
        "!format.dns1123Label().validate('Not').hasValue() == false && !format.named('uuid').value().validate('00000000-0000-0000-0000-000000000000').hasValue()",
        "b'abc' == bytes('abc') && string(b'a') == 'a' && 0x10 == 16 && r'\\d' == '\\\\d' && '''a'b''' == \"a'b\" && '\\u00e9' == 'é'",
        "has({'a': 1}.a) && !has({'a': 1}.b)",
    ],
)  # fmt: skip
def test_expressions_that_hold(text: str) -> None:
    assert value_of(text) is True


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("self.b", "no such key: b"),
        ("self.l[5]", "index out of bounds: 5"),
        ("1 / (self.a - 1)", "division by zero"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("1 + 1.0", "no such overload"),
        ("'a' + 1", "no such overload"),
        ("self.a && true", "no such overload"),
        ("self.a.all(x, true)", "no such overload"),
        ("'a'.matches('(')", "error parsing regexp: "),
        ("ip('x')", 'IP Address "x" parse error during conversion from string'),
        ("duration('x')", 'time: invalid duration "x"'),
        ("optional.none().value()", "optional.none() dereference"),
    ],
)
def test_evaluation_fails_in_words_of_cel_go(text: str, problem: str) -> None:
    with pytest.raises(EvaluationError, match="^" + problem.replace("(", r"\(").replace(")", r"\)")):
        value_of(text, {"a": 1, "l": []})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("self.a >", "ERROR: <input>:1:9: Syntax error: mismatched input '<EOF>'\n | self.a >\n | ........^"),
        ("foo > 1", "ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo > 1\n | ^"),
        ("self.\nbar(1)", "ERROR: <input>:1:5: undeclared reference to 'bar' (in container '')\n | self.\n | ....^"),
        ("has(self)", "ERROR: <input>:1:1: invalid argument to has() macro\n | has(self)\n | ^"),
        ("1 2", "ERROR: <input>:1:3: Syntax error: extraneous input '2'\n | 1 2\n | ..^"),
    ],
)
def test_what_cannot_be_read_is_shown(text: str, message: str) -> None:
    with pytest.raises(CELSyntaxError) as caught:
        Program(text, ("self",))
    assert str(caught.value) == message


def test_names_that_are_none_in_cel_are_escaped() -> None:
    obj = {"a-b": 1, "namespace": 2, "x.y": 3, "a/b": 4, "c__d": 5}
    text = "self.a__dash__b + self.__namespace__ + self.x__dot__y + self.a__slash__b + self.c__underscores__d == 15"
    assert value_of(text, obj) is True
    assert value_of("has(self.`a-b`) && self.`a-b` == 1", obj) is True


def test_lists_that_are_sets_or_maps_compare_without_order() -> None:
    one, other = UniqueList([1, 2]), UniqueList([2, 1])
    assert value_of("self == oldSelf && (self + [2, 3]).size() == 3", one, other) is True
    keyed = KeyedList([{"k": 1, "v": 1}, {"k": 2, "v": 2}])
    keyed.keys = ("k",)
    turned = KeyedList(reversed(keyed))
    assert value_of("self == oldSelf", keyed, turned) is True
    assert value_of("(self + [{'k': 1, 'v': 9}])[0].v == 9", keyed) is True


def test_which_variables_an_expression_speaks_of() -> None:
    assert Program("self.a == oldSelf.a", ("self", "oldSelf")).names == {"self", "oldSelf"}
    assert Program("[1].all(oldSelf, oldSelf == self)", ("self", "oldSelf")).names == {"self"}


def test_cost_is_bounded() -> None:
    numbers = list(range(1000))
    with pytest.raises(CostExceeded):
        value_of("self.all(a, self.all(b, self.all(c, a + b + c >= 0)))", numbers)
    _, cost = Program("self.all(a, a >= 0)", ("self",)).evaluate({"self": numbers})
    assert 1000 < cost < 20_000
    with pytest.raises(CELSyntaxError):
        Program("(" * 500 + "1" + ")" * 500, ())


@given(st.text(max_size=40))
def test_no_text_does_anything_but_be_refused_or_evaluated(text: str) -> None:
    with contextlib.suppress(CELSyntaxError, EvaluationError):
        value_of(text, {"a": [1, "x"], "b": {"c": None}})


_LEAF = st.sampled_from(["self.a", "self.b.c", "1", "'x'", "[1]", "null", "true", "2.5", "{'k': 1}"])
_TREE = st.recursive(
    _LEAF,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "%", "==", "<", "&&", "||", "in"]), inner).map(
            lambda part: f"({part[0]} {part[1]} {part[2]})"
        ),
        st.tuples(inner, st.sampled_from(["size()", "all(x, x == 1)", "map(x, x)", "startsWith('a')", "k"])).map(
            lambda part: f"({part[0]}).{part[1]}"
        ),
    ),
    max_leaves=8,
)


@given(_TREE)
def test_every_tree_has_a_value_or_an_error_of_evaluation(text: str) -> None:
    with contextlib.suppress(EvaluationError):
        value_of(text, {"a": [1, "x"], "b": {"c": 3}})
