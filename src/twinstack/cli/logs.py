"""Where log records go: standard error, a line each."""

from __future__ import annotations

import logging
import time


class LineFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.123Z INFO twinstack.proxy: text`; a traceback follows on indented lines."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", "\n    ")


def configure(verbosity: int) -> None:
    """`verbosity` counts as klog's `--v`: from 4 on, debugging records are written too."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=logging.DEBUG if verbosity >= 4 else logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
