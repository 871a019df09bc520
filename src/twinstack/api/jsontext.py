"""JSON text as the API server reads it: numbers keep their spelling, errors are in the words of Go's encoding/json."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from twinstack.api import nesting
from twinstack.api.schema import Number, kind_of

__all__ = ["JSONSyntaxError", "Pairs", "decode", "decode_pairs", "has_repeated_keys", "kind_of", "syntax_error"]

JSON = dict[str, Any]

_decode = msgspec.json.Decoder(float_hook=Number).decode
_space_before_colon = re.compile(rb'"[ \t\r\n]+:').search
_SIMPLE = 100  # opening brackets: what has fewer needs no look at its shape
_LONGEST_INTEGER = 1000  # digits that Python is asked to read
# A surrogate pair, half of one (the only match of six bytes), or any other escape.
_PAIR_OR_HALF = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", re.DOTALL
)


class JSONSyntaxError(ValueError):
    """The text is no JSON."""


def decode(text: bytes) -> Any:
    """Read one JSON value. Of a repeated key the last value counts. Raises JSONSyntaxError."""
    value = _read(text)
    if text.count(b"{") + text.count(b"[") > _SIMPLE or _has_many_members(text):
        problem = nesting.problem(value)
        if problem:
            raise JSONSyntaxError(problem)
    return value


def _has_many_members(text: bytes) -> bool:
    """Whether a text of few containers may have more parts than are read: each but the first follows a comma."""
    return len(text) > nesting.MAX_PARTS and text.count(b",") > nesting.MAX_PARTS - _SIMPLE - 2


def _read(text: bytes) -> Any:
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        message = syntax_error(text)
    except RecursionError:
        message = "exceeded max depth"
    if message:
        raise JSONSyntaxError(message)
    return json.loads(_readable(text), parse_float=Number, parse_int=_integer)


def _readable(text: bytes) -> str:
    """As Go reads it: with U+FFFD in place of what is no UTF-8, and of halves of surrogate pairs."""
    if b"\\u" in text:
        text = _PAIR_OR_HALF.sub(lambda found: b"\\ufffd" if len(found[0]) == 6 else found[0], text)
    return text.decode("utf-8", "replace")


def _integer(text: str) -> int | Number:
    return int(text) if len(text) <= _LONGEST_INTEGER else Number(text)


def has_repeated_keys(text: bytes, value: Any) -> bool:
    """Whether some object in `text`, which reads as `value`, has a key twice; now and then true though none has.

    A key is what stands before a colon: there are as many `":` in the text, outside of strings, as keys.
    """
    colons = text.count(b'":') - text.count(b'\\":')
    if colons != _count_keys(value):
        return True
    return _space_before_colon(text) is not None or b'\\\\":' in text  # what the count cannot see


def _count_keys(value: Any) -> int:
    if type(value) is dict:
        count = len(value)
        for item in value.values():
            if type(item) is dict or type(item) is list:
                count += _count_keys(item)
        return count
    if type(value) is list:
        return sum(_count_keys(item) for item in value if type(item) is dict or type(item) is list)
    return 0


class Pairs(dict[str, Any]):
    """An object that remembers every key of its text, in order, repeated ones too."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def decode_pairs(text: bytes) -> Any:
    """Read a text that `decode` has accepted, objects as Pairs. Slow."""
    return json.loads(_readable(text), parse_float=Number, parse_int=_integer, object_pairs_hook=Pairs)


# The errors of Go's scanner ------------------------------------------------------------------------------------

_WHITE = b" \t\r\n"
_DIGITS = b"0123456789"
_HEX = b"0123456789abcdefABCDEF"
_ESCAPES = b'bfnrt\\/"'
_END = "unexpected end of JSON input"
_MAX_DEPTH = 10_000


class _Stop(Exception):
    """Where and why the scanner gives up."""


def syntax_error(text: bytes) -> str:
    """What Go's encoding/json says about a text; empty if it is JSON."""
    try:
        position = _skip_white(text, _value(text, _skip_white(text, 0), 1))
        if position < len(text):
            raise _unexpected(text, position, "after top-level value")
    except _Stop as stop:
        return str(stop)
    return ""


def _unexpected(text: bytes, position: int, context: str) -> _Stop:
    if position >= len(text):
        return _Stop(_END)
    char = chr(text[position])
    shown = {"'": r"'\''", '"': "'\"'"}.get(char)
    if shown is None:
        escaped = char if char.isprintable() else char.encode("unicode_escape").decode()
        if char >= "\x80" and not char.isprintable():
            escaped = f"\\u{ord(char):04x}"
        shown = f"'{escaped}'"
    return _Stop(f"invalid character {shown} {context}")


def _skip_white(text: bytes, position: int) -> int:
    while position < len(text) and text[position] in _WHITE:
        position += 1
    return position


def _value(text: bytes, position: int, depth: int) -> int:
    """Check one value that begins at `position`; returns where it ends."""
    if position >= len(text):
        raise _Stop(_END)
    if depth > _MAX_DEPTH:
        raise _Stop("exceeded max depth")
    first = text[position : position + 1]
    if first == b"{":
        return _object(text, position + 1, depth)
    if first == b"[":
        return _array(text, position + 1, depth)
    if first == b'"':
        return _string(text, position + 1)
    if first in (b"t", b"f", b"n"):
        return _literal(text, position)
    if first == b"-" or first in (b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9"):
        return _number(text, position)
    raise _unexpected(text, position, "looking for beginning of value")


def _object(text: bytes, position: int, depth: int) -> int:
    position = _skip_white(text, position)
    if text[position : position + 1] == b"}":
        return position + 1
    while True:
        if text[position : position + 1] != b'"':
            raise _unexpected(text, position, "looking for beginning of object key string")
        position = _skip_white(text, _string(text, position + 1))
        if text[position : position + 1] != b":":
            raise _unexpected(text, position, "after object key")
        position = _skip_white(text, _value(text, _skip_white(text, position + 1), depth + 1))
        mark = text[position : position + 1]
        if mark == b"}":
            return position + 1
        if mark != b",":
            raise _unexpected(text, position, "after object key:value pair")
        position = _skip_white(text, position + 1)


def _array(text: bytes, position: int, depth: int) -> int:
    position = _skip_white(text, position)
    if text[position : position + 1] == b"]":
        return position + 1
    while True:
        position = _skip_white(text, _value(text, position, depth + 1))
        mark = text[position : position + 1]
        if mark == b"]":
            return position + 1
        if mark != b",":
            raise _unexpected(text, position, "after array element")
        position = _skip_white(text, position + 1)


def _string(text: bytes, position: int) -> int:
    while position < len(text):
        byte = text[position]
        if byte == 0x22:
            return position + 1
        if byte < 0x20:
            raise _unexpected(text, position, "in string literal")
        position += 1
        if byte != 0x5C:
            continue
        if text[position : position + 1] == b"u":
            for digit in range(position + 1, position + 5):
                if digit >= len(text) or text[digit] not in _HEX:
                    raise _unexpected(text, digit, r"in \u hexadecimal character escape")
        elif position >= len(text) or text[position] not in _ESCAPES:
            raise _unexpected(text, position, "in string escape code")
        position += 1
    raise _Stop(_END)


def _literal(text: bytes, position: int) -> int:
    word = {b"t": b"true", b"f": b"false", b"n": b"null"}[text[position : position + 1]]
    for offset in range(1, len(word)):
        if text[position + offset : position + offset + 1] != word[offset : offset + 1]:
            context = f"in literal {word.decode()} (expecting '{chr(word[offset])}')"
            raise _unexpected(text, position + offset, context)
    return position + len(word)


def _number(text: bytes, position: int) -> int:
    if text[position] == 0x2D:
        position += 1
    if text[position : position + 1] == b"0":
        position += 1
    else:
        position = _some_digits(text, position, "in numeric literal")
    if text[position : position + 1] == b".":
        position = _some_digits(text, position + 1, "after decimal point in numeric literal")
    if text[position : position + 1] in (b"e", b"E"):
        position += 1
        if text[position : position + 1] in (b"+", b"-"):
            position += 1
        position = _some_digits(text, position, "in exponent of numeric literal")
    return position


def _some_digits(text: bytes, position: int, context: str) -> int:
    if position >= len(text) or text[position] not in _DIGITS:
        raise _unexpected(text, position, context)
    while position < len(text) and text[position] in _DIGITS:
        position += 1
    return position
