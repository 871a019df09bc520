"""CEL text into a tree (https://github.com/google/cel-spec, langdef.md). Pure; the depth of nesting is bounded."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

_MOST_NESTING = 50  # of brackets; each level takes several frames of Python
_LONGEST = 100_000  # characters


class CELSyntaxError(ValueError):
    """Text that is no expression, in the words and form of cel-go."""


class Node(NamedTuple):
    """One operation. `name` says which; `position` is the offset in the text that messages point at.

    Kinds: `literal` (value), `name` (name), `select` and `optional-select` (args[0], name), `index` and
    `optional-index`, `call` (name, args; args[0] is the receiver if `method`), `list`, `map` (keys and values by
    turns), `and`, `or`, `if`. `value` of a list or map holds the indices of its optional entries.
    """

    kind: str
    position: int
    name: str = ""
    args: tuple[Node, ...] = ()
    value: Any = None
    method: bool = False


class UInt(int):
    """An unsigned number: `5u`."""


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f]+|//[^\n]*)
      |(?P<float>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)
      |(?P<int>0x[0-9a-fA-F]+[uU]?|[0-9]+[uU]?)
      |(?P<string>[rR]?[bB]?[rR]?(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
      |(?P<name>[_a-zA-Z][_a-zA-Z0-9]*)
      |(?P<quoted>`[-_./ a-zA-Z0-9]+`)
      |(?P<sign>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\?\"'`])|[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.?))", re.DOTALL
)
_PLAIN_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_WORDS = {"true": True, "false": False, "null": None}
_RELATIONS = ("==", "!=", "<=", ">=", "<", ">", "in")
_LEVELS = (_RELATIONS, ("+", "-"), ("*", "/", "%"))


def failure(text: str, position: int, problem: str) -> str:
    """A message with the place in the text, as cel-go prints it."""
    line = text.count("\n", 0, position)
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    shown = text[start : end if end >= 0 else None]
    column = position - start
    return f"ERROR: <input>:{line + 1}:{column + 1}: {problem}\n | {shown}\n | {'.' * column}^"


def parse(text: str) -> Node:
    """Raises CELSyntaxError."""
    if len(text) > _LONGEST:
        raise CELSyntaxError(f"expression code point size exceeds limit: size: {len(text)}, limit {_LONGEST}")
    try:
        return _Parser(text).whole()
    except RecursionError:
        raise CELSyntaxError(f"expression recursion limit exceeded: {_MOST_NESTING}") from None


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            problem = f"Syntax error: token recognition error at: '{text[at]}'"
            raise CELSyntaxError(failure(text, at, problem))
        if match.lastgroup == "name" and match[0] == "in":
            found.append(_Token("sign", "in", at))
        elif match.lastgroup != "space":
            found.append(_Token(match.lastgroup, match[0], at))
        at = match.end()
    found.append(_Token("end", "<EOF>", len(text)))
    return found


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0

    def whole(self) -> Node:
        node = self._expression()
        if self._tokens[self._at].kind != "end":
            raise self._unexpected()
        return node

    # --- tokens

    def _take(self, *signs: str) -> _Token | None:
        token = self._tokens[self._at]
        if token.kind == "sign" and token.text in signs:
            self._at += 1
            return token
        return None

    def _need(self, sign: str) -> _Token:
        token = self._take(sign)
        if token is None:
            raise self._unexpected(sign)
        return token

    def _unexpected(self, wanted: str = "") -> CELSyntaxError:
        token = self._tokens[self._at]
        expecting = f" expecting '{wanted}'" if wanted else ""
        kind = "mismatched" if wanted or token.kind == "end" else "extraneous"
        return CELSyntaxError(
            failure(self._text, token.position, f"Syntax error: {kind} input '{token.text}'{expecting}")
        )

    # --- levels of binding, loosest first

    def _expression(self) -> Node:
        self._depth += 1
        if self._depth > _MOST_NESTING:
            raise CELSyntaxError(f"expression recursion limit exceeded: {_MOST_NESTING}")
        node = self._logic("or", "||")
        mark = self._take("?")
        if mark is not None:
            yes = self._logic("or", "||")
            self._need(":")
            node = Node("if", mark.position, args=(node, yes, self._expression()))
        self._depth -= 1
        return node

    def _logic(self, kind: str, sign: str) -> Node:
        parts = [self._part(kind)]
        position = parts[0].position
        while (token := self._take(sign)) is not None:
            position = token.position
            parts.append(self._part(kind))
        return parts[0] if len(parts) == 1 else Node(kind, position, args=tuple(parts))

    def _part(self, kind: str) -> Node:
        return self._logic("and", "&&") if kind == "or" else self._binary(0)

    def _binary(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self._unary()
        node = self._binary(level + 1)
        while (token := self._take(*_LEVELS[level])) is not None:
            node = Node("call", token.position, token.text, (node, self._binary(level + 1)))
        return node

    def _unary(self) -> Node:
        signs: list[_Token] = []
        while (token := self._take("!", "-")) is not None:
            signs.append(token)
        node = self._member()
        for token in reversed(signs):
            if token.text == "-" and node.kind == "literal" and type(node.value) in (int, float):
                node = Node("literal", token.position, value=-node.value)
            else:
                node = Node("call", token.position, "!" if token.text == "!" else "neg", (node,))
        return node

    def _member(self) -> Node:
        node = self._primary()
        while True:
            if (token := self._take(".")) is not None:
                optional = self._take("?") is not None
                name = self._name()
                if not optional and self._take("(") is not None:
                    node = Node("call", token.position, name, (node, *self._items(")")), method=True)
                else:
                    node = Node("optional-select" if optional else "select", token.position, name, (node,))
            elif (token := self._take("[")) is not None:
                kind = "optional-index" if self._take("?") is not None else "index"
                node = Node(kind, token.position, args=(node, self._expression()))
                self._need("]")
            else:
                return node

    def _name(self) -> str:
        token = self._tokens[self._at]
        if token.kind not in ("name", "quoted"):
            raise self._unexpected("IDENTIFIER")
        self._at += 1
        return token.text.strip("`")

    def _items(self, end: str) -> list[Node]:
        items: list[Node] = []
        while self._take(end) is None:
            items.append(self._expression())
            if self._take(",") is None:
                self._need(end)
                break
        return items

    def _primary(self) -> Node:
        token = self._tokens[self._at]
        self._at += 1
        if token.kind == "sign":
            return self._bracketed(token)
        if token.kind == "name":
            if token.text in _WORDS:
                return Node("literal", token.position, value=_WORDS[token.text])
            if self._take("(") is not None:
                return Node("call", token.position, token.text, tuple(self._items(")")))
            return Node("name", token.position, token.text)
        if token.kind in ("int", "float", "string"):
            return Node("literal", token.position, value=self._literal(token))
        self._at -= 1
        raise self._unexpected()

    def _bracketed(self, token: _Token) -> Node:
        if token.text == "(":
            node = self._expression()
            self._need(")")
            return node
        if token.text == "[":
            return self._list(token)
        if token.text == "{":
            return self._map(token)
        if token.text == ".":
            return Node("name", token.position, self._name())
        self._at -= 1
        raise self._unexpected()

    def _list(self, start: _Token) -> Node:
        items: list[Node] = []
        optional: set[int] = set()
        while self._take("]") is None:
            if self._take("?") is not None:
                optional.add(len(items))
            items.append(self._expression())
            if self._take(",") is None:
                self._need("]")
                break
        return Node("list", start.position, args=tuple(items), value=frozenset(optional))

    def _map(self, start: _Token) -> Node:
        items: list[Node] = []
        optional: set[int] = set()
        while self._take("}") is None:
            if self._take("?") is not None:
                optional.add(len(items))
            items.append(self._expression())
            self._need(":")
            items.append(self._expression())
            if self._take(",") is None:
                self._need("}")
                break
        return Node("map", start.position, args=tuple(items), value=frozenset(optional))

    # --- literals

    def _literal(self, token: _Token) -> Any:
        text = token.text
        if token.kind == "float":
            return float(text)
        if token.kind == "int":
            unsigned = text[-1] in "uU"
            value = int(text.rstrip("uU"), 0) if text[:2] == "0x" else int(text.rstrip("uU"))
            if value >= 1 << (64 if unsigned else 63):
                kind = "uint" if unsigned else "int"
                raise CELSyntaxError(failure(self._text, token.position, f"Syntax error: invalid {kind} literal"))
            return UInt(value) if unsigned else value
        prefix = re.match("[rRbB]*", text)
        letters = prefix[0].lower() if prefix else ""
        body = text[len(letters) :]
        quotes = 3 if body[:3] in ('"""', "'''") and len(body) >= 6 else 1
        body = body[quotes:-quotes]
        if "r" not in letters:
            body = _ESCAPE.sub(lambda match: self._escape(match, token), body)
        return body.encode() if "b" in letters else body

    def _escape(self, match: re.Match[str], token: _Token) -> str:
        plain, two, four, eight, octal, _ = match.groups()
        if plain:
            return _PLAIN_ESCAPES.get(plain, plain)
        digits = two or four or eight
        code = int(digits, 16) if digits else int(octal, 8) if octal else -1
        if not 0 <= code < 0x110000 or 0xD800 <= code < 0xE000:
            raise CELSyntaxError(failure(self._text, token.position, "Syntax error: unable to unescape string"))
        return chr(code)
