"""Answers as YAML, in the style of Go's printer. Imported when somebody asks for one."""

from __future__ import annotations

import re
from typing import Any

import yaml

from twinstack.api.yamltext import is_text

_UNICODE_BREAKS = frozenset("\x85\u2028\u2029")  # a block would read them as plain ends of lines


class _Dumper(yaml.SafeDumper):
    """Quotes, where they are needed, are double; text of several lines is a literal block."""

    def choose_scalar_style(self) -> str:
        if isinstance(self.event, yaml.ScalarEvent) and self.event.style == '"':
            return '"'
        style: str = super().choose_scalar_style()
        analysis = self.analysis
        block = analysis is not None and analysis.multiline and analysis.allow_block
        if block and not self.flow_level and not self.simple_key_context:
            return "|"
        return '"' if style == "'" else style

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """In quotes what would be read as something else: `0E0` is a number to Go, though not to PyYAML."""
        quoted = not is_text(text) or not _UNICODE_BREAKS.isdisjoint(text)
        return self.represent_scalar("tag:yaml.org,2002:str", text, style='"' if quoted else None)


_Dumper.add_representer(str, _Dumper.represent_text)


def encode(value: Any) -> bytes:
    """The YAML of decoded JSON."""
    text: str = yaml.dump(_sorted(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 20)
    return text.encode()


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value, key=_order)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _order(key: str) -> list[tuple[int, int, str]]:
    """Numbers inside names count as numbers, and what is no letter comes before letters."""
    parts = re.findall(r"[0-9]+|[^0-9]", key)
    return [_number(part) if part.isdecimal() else (int(part.isalpha()), -1, part) for part in parts]


def _number(digits: str) -> tuple[int, int, str]:
    """In order of value without reading it: Python refuses to read thousands of digits."""
    digits = digits.lstrip("0")
    return (0, len(digits), digits)
