"""A program on a real pseudo-terminal, as a person at a keyboard has it."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from types import TracebackType


class Terminal:
    """Starts `words` on a terminal of its own. Leaving the context kills it."""

    def __init__(self, words: list[str], environment: Mapping[str, str], *, columns: int = 80, rows: int = 24) -> None:
        self._master, slave = os.openpty()
        self.said = ""
        self._set_size(columns, rows)
        self.process = subprocess.Popen(
            words, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True, preexec_fn=_lead
        )
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        self._set_size(columns, rows)
        os.killpg(self.process.pid, signal.SIGWINCH)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def until(self, text: str, seconds: float = 60.0) -> str:
        """Read until `text` has been said since the last call; returns what was said up to it."""
        deadline = time.monotonic() + seconds
        while text not in self.said:
            left = deadline - time.monotonic()
            assert left > 0, f"not said within {seconds} s: {text!r}; but: {self.said!r}"
            if select.select([self._master], [], [], left)[0]:
                self.said += self._read()
        before, _, self.said = self.said.partition(text)
        return before

    def _read(self) -> str:
        try:
            return os.read(self._master, 65536).decode(errors="replace")
        except OSError as error:
            raise AssertionError(f"the program has ended; it had said {self.said!r}") from error

    def wait(self, seconds: float = 60.0) -> int:
        """The exit code; what it still says is kept in `said`."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it has not ended; it had said {self.said!r}"
            if select.select([self._master], [], [], 0.05)[0]:
                try:
                    self.said += os.read(self._master, 65536).decode(errors="replace")
                except OSError:
                    time.sleep(0.01)
        return self.process.returncode


def _lead() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
