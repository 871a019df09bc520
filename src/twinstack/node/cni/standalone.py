"""One call of the plugin without a service: `python -m twinstack.node.cni.standalone`, called as the executable is."""

from __future__ import annotations

import os
import sys

from twinstack.node.cni.plugin import answer


def main() -> int:
    """The exit code."""
    made = answer(dict(os.environ), sys.stdin.buffer.read())
    sys.stdout.buffer.write(made.text)
    return made.code


if __name__ == "__main__":
    sys.exit(main())
