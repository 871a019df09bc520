from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.node import logs
from twinstack.node.logs import LogOptions, LogReader


def record(second: int, text: str, tag: str = "F", stream: str = "stdout") -> str:
    return f"2026-01-31T12:00:{second:02}.000000000Z {stream} {tag} {text}\n"


def output(path: Path, **options: object) -> bytes:
    reader = LogReader(path, LogOptions(**options))  # type: ignore[arg-type]
    try:
        return b"".join(reader.read())
    finally:
        reader.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "0.log"
    lines = [record(1, "one"), record(2, "tw", "P"), record(2, "o"), record(3, "three", stream="stderr"), record(4, "")]
    path.write_text("".join(lines))
    return path


def test_lines_and_their_parts(log: Path) -> None:
    assert output(log) == b"one\ntwo\nthree\n\n"


def test_no_log_yet(tmp_path: Path) -> None:
    assert output(tmp_path / "none.log") == b""
    assert output(tmp_path / "none.log", tail_lines=3) == b""


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (0, b""),
        (1, b"\n"),
        (2, b"three\n\n"),
        (3, b"two\nthree\n\n"),
        (4, b"one\ntwo\nthree\n\n"),
        (9, b"one\ntwo\nthree\n\n"),
    ],
)
def test_tail(log: Path, lines: int, expected: bytes) -> None:
    assert output(log, tail_lines=lines) == expected


def test_since(log: Path) -> None:
    assert output(log, since=b"2026-01-31T12:00:03") == b"three\n\n"


def test_timestamps_stand_once_a_line(log: Path) -> None:
    assert output(log, timestamps=True, tail_lines=3).splitlines() == [
        b"2026-01-31T12:00:02.000000000Z two",
        b"2026-01-31T12:00:03.000000000Z three",
        b"2026-01-31T12:00:04.000000000Z ",
    ]


@pytest.mark.parametrize("limit", [1, 3, 4, 5, 100])
def test_a_limit_of_bytes(log: Path, limit: int) -> None:
    assert output(log, limit_bytes=limit) == b"one\ntwo\nthree\n\n"[:limit]


def test_output_without_an_end_of_line(log: Path) -> None:
    with log.open("a") as file:
        file.write(record(5, "prompt> ", "P"))
    assert output(log, tail_lines=1) == b"prompt> "


def test_what_is_appended_comes_next_and_a_half_written_record_waits(log: Path) -> None:
    reader = LogReader(log, LogOptions(follow=True, tail_lines=0))
    assert b"".join(reader.read()) == b""
    text = record(5, "five")
    with log.open("a") as file:
        file.write(text[:20])
        file.flush()
        assert b"".join(reader.read()) == b""
        file.write(text[20:])
        file.flush()
        assert b"".join(reader.read()) == b"five\n"
    reader.close()


def test_a_log_that_is_begun_anew(log: Path) -> None:
    reader = LogReader(log, LogOptions(follow=True, tail_lines=1))
    assert b"".join(reader.read()) == b"\n"
    with log.open("a") as file:
        file.write(record(5, "last"))
    os.rename(log, log.with_name("0.log.1"))
    assert b"".join(reader.read()) == b"last\n"
    log.write_text(record(6, "first"))
    assert b"".join(reader.read()) == b"first\n"
    reader.close()
    assert output(log, tail_lines=2) == b"last\nfirst\n"
    assert output(log) == b"one\ntwo\nthree\n\nlast\nfirst\n"


@given(st.lists(st.text(alphabet="ab ", max_size=40), max_size=30), st.integers(0, 35), st.integers(20, 200))
def test_tail_is_the_end_of_the_whole(lines: list[str], count: int, chunk: int) -> None:
    original = logs.CHUNK
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "0.log"
        path.write_text("".join(record(1, line) for line in lines))
        try:
            logs.CHUNK = chunk  # so that lines cross the pieces that are read
            expected = "".join(f"{line}\n" for line in (lines[-count:] if count else []))
            assert output(path, tail_lines=count).decode() == expected
        finally:
            logs.CHUNK = original
