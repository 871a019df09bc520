"""How many requests may be in work at a time: those beyond are told to come back (kube-apiserver's max-in-flight)."""

from __future__ import annotations

import argparse

from twinstack.server.messages import Response, Route, UserInfo
from twinstack.server.metrics import Metrics

_PRIVILEGED = "system:masters"  # who mends an overloaded cluster is never sent away
_LONG_RUNNING = frozenset(("attach", "exec", "log", "portforward", "proxy"))  # subresources
_RETRY_AFTER = 1  # seconds


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Names, meanings and defaults of kube-apiserver's."""
    add = parser.add_argument
    add(
        "--max-requests-inflight",
        type=int,
        default=400,
        metavar="N",
        help="requests that change nothing in work at a time; 0: any number",
    )
    add(
        "--max-mutating-requests-inflight",
        type=int,
        default=200,
        metavar="N",
        help="requests that change something in work at a time; 0: any number",
    )


def is_long_running(verb: str, route: Route | None) -> bool:
    """Whether an answer may take as long as its reader wants."""
    return verb == "watch" or (route is not None and route.subresource in _LONG_RUNNING)


class Inflight:
    """The bounds. Requests are counted by the server's metrics; watches and other long answers count to their head."""

    def __init__(self, counters: Metrics, *, reading: int = 400, mutating: int = 200) -> None:
        self._counters = counters
        self._most = {"readOnly": reading, "mutating": mutating}

    def refusal(self, kind: str, verb: str, route: Route | None, user: UserInfo) -> Response | None:
        """The answer to a request that is one too many; `kind` is what the metrics count it as."""
        most = self._most[kind]
        if not most or self._counters.inflight(kind) <= most or _PRIVILEGED in user.groups:
            return None
        if is_long_running(verb, route):
            return None
        return Response(
            status=429,
            body=b"Too many requests, please try again later.\n",
            content_type="text/plain; charset=utf-8",
            headers=[("Retry-After", str(_RETRY_AFTER)), ("X-Content-Type-Options", "nosniff")],
        )
