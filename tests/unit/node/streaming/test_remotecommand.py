"""The small rules of remote commands: window sizes, and how one ended."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.node.streaming import status
from twinstack.node.streaming.negotiation import Refusal
from twinstack.node.streaming.portforward import ports_of
from twinstack.node.streaming.remotecommand import Sizes

SIZES = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), max_size=6)


@given(SIZES, st.lists(st.integers(0, 40), max_size=10))
def test_sizes_come_out_of_any_pieces(sent: list[tuple[int, int]], cuts: list[int]) -> None:
    text = b"".join(b'{"Width":%d,"Height":%d}\n' % size for size in sent)
    sizes, got = Sizes(), list[tuple[int, int]]()
    sizes.tell(lambda columns, rows: got.append((columns, rows)))
    position = 0
    for cut in [*cuts, len(text)]:
        sizes.put(text[position : position + cut])
        position += cut
    assert got == sent


def test_a_terminal_that_comes_later_hears_the_last_size() -> None:
    sizes, got = Sizes(), list[tuple[int, int]]()
    sizes.put(b'{"Width":1,"Height":2}{"Width":80,"Height":24}')
    sizes.tell(lambda *size: got.append(size))
    sizes.put(b'nonsense}{"Width":-1,"Height":2}{"Width":"x","Height":2}{"Width":3}')
    sizes.put(b"x" * 5000 + b'}{"Width":81,"Height":25}')
    sizes.tell(None)
    sizes.put(b'{"Width":9,"Height":9}')
    assert got == [(80, 24), (81, 25)]


def test_how_it_ended() -> None:
    """As kubelet says it; kubectl takes the exit code from the cause."""
    assert status.encoded(status.of_exit(["true"], 0), 4) == b'{"metadata":{},"status":"Success"}'
    failed = json.loads(status.encoded(status.of_exit(["sh", "-c", "exit 3"], 3), 5))
    assert failed["reason"] == "NonZeroExitCode"
    assert failed["details"] == {"causes": [{"reason": "ExitCode", "message": "3"}]}
    assert failed["message"] == (
        "command terminated with non-zero exit code: error executing command [sh -c exit 3], exit code 3"
    )
    broken = json.loads(status.encoded(status.of_failure("it is gone"), 4))
    assert (broken["code"], broken["message"]) == (500, "Internal error occurred: it is gone")
    assert status.encoded(status.SUCCESS, 1) == b""
    assert status.encoded(status.of_failure("no"), 3) == b"Internal error occurred: no"


def test_ports_of_a_query() -> None:
    assert ports_of(["80,443", "8080"]) == [80, 443, 8080]
    for text in ("0", "65536", "http", "-1", "80,"):
        with pytest.raises(Refusal, match="as a port"):
            ports_of([text])
