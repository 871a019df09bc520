"""Answers as YAML, in the style of Go's printer. Imported when somebody asks for one."""

from __future__ import annotations

from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Quotes, where they are needed, are double; text of several lines is a literal block."""

    def choose_scalar_style(self) -> str:
        style: str = super().choose_scalar_style()
        analysis = self.analysis
        block = analysis is not None and analysis.multiline and analysis.allow_block
        if block and not self.flow_level and not self.simple_key_context:
            return "|"
        return '"' if style == "'" else style

    def ignore_aliases(self, data: Any) -> bool:
        return True


def encode(value: Any) -> bytes:
    """The YAML of decoded JSON."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=True, allow_unicode=True, width=1 << 20)
    return text.encode()
