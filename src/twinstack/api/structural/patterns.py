"""Go's regular expressions (RE2 syntax) in Python's."""

from __future__ import annotations

import functools
import re

_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7F",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1F\x7F",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_LONGEST = 10_000


@functools.lru_cache(maxsize=512)
def compiled(pattern: str) -> re.Pattern[str]:
    """Raises ValueError for what is no expression."""
    if len(pattern) > _LONGEST:
        raise ValueError("expression too large")
    try:
        return re.compile(_translated(pattern), re.ASCII)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{error}: `{pattern}`") from error


def _translated(pattern: str) -> str:
    """`\\z` and `$` mean the very end; classes such as `[[:alpha:]]` are spelled out; flags may stand anywhere."""
    out: list[str] = []
    flags = ""
    inside = False  # a character class
    at = 0
    while at < len(pattern):
        rest = pattern[at : at + 12]
        named = re.match(r"\[:(\^?)(\w+):\]", rest) if inside else None
        group = re.match(r"\(\?([a-z]+)\)", rest) if not inside else None
        if pattern[at] == "\\":
            pair = pattern[at : at + 2]
            out.append({"\\z": r"\Z", "\\Q": "", "\\E": "", "\\C": "."}.get(pair, pair))
            at += 2
        elif named and named[2] in _CLASSES:
            out.append(_CLASSES[named[2]])
            at += named.end()
        elif group and set(group[1]) <= set("ims"):
            flags += group[1]
            at += group.end()
        else:
            char = pattern[at]
            if inside:
                inside = not (char == "]" and out[-1] not in ("[", "[^"))
                out.append(r"\[" if char == "[" else char)
            elif char == "[":
                inside = True
                out.append("[^" if pattern[at + 1 : at + 2] == "^" else "[")
                at += len(out[-1]) - 1
            else:
                out.append(r"\Z" if char == "$" and "m" not in flags else char)
            at += 1
    return (f"(?{''.join(sorted(set(flags)))})" if flags else "") + "".join(out)
